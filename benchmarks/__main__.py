"""``python -m benchmarks transport [--quick] [--threads 1]``: a table of ratios, and JSON."""

import argparse
import os

FAMILIES = ("transport", "sensing", "bilevel", "online")


def main() -> None:
    """Read the options, fix the threads before NumPy is loaded, and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Our solvers beside their peers.")
    parser.add_argument("families", nargs="*", help=f"some of: {', '.join(FAMILIES)} (all by default)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of everybody (default 1)")
    parser.add_argument("--rounds", type=int, help="rounds per contest (default 9, quick 3)")
    parser.add_argument("--only", default="", help="run the contests whose module, function and arguments contain this")
    parser.add_argument("--out", default="benchmarks.json", help="where to write the rows (default %(default)s)")
    options = parser.parse_args()
    if unknown := set(options.families) - set(FAMILIES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)

    from benchmarks.harness import alone, entries, machine, print_table, write

    about = machine(options.threads)
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    rows = []
    for family in options.families or FAMILIES:
        for index, entry in enumerate(entries(family, options.quick)):
            if options.only not in str(entry):
                continue
            rows.append(alone(family, options.quick, index, options.rounds or (3 if options.quick else 9)))
            print_table([rows[-1]], header=len(rows) == 1)
            write(options.out, about, rows)


if __name__ == "__main__":
    main()
