"""``python -m optlib.experiments`` is the command ``optlib``."""

from optlib.experiments.cli import main

if __name__ == "__main__":
    main()
