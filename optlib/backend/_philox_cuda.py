"""Philox4x32-10 and its distributions in CUDA: one thread writes the four numbers of a counter."""

from functools import cache

SOURCES = {
    "philox": r"""
typedef unsigned int word;
typedef unsigned long long wide;

struct Words { word w[4]; };

__device__ Words philox4x32(wide counter, wide key) {
    word c0 = (word)counter, c1 = (word)(counter >> 32), c2 = 0, c3 = 0;
    word k0 = (word)key, k1 = (word)(key >> 32);
    #pragma unroll
    for (int round = 0; round < 10; ++round) {
        word high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        word high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

__device__ void sine_cosine_pi(double x, double* s, double* c) { sincospi(x, s, c); }
__device__ void sine_cosine_pi(float x, float* s, float* c) { sincospif(x, s, c); }

// Four consecutive numbers of a stream, from the words of their counter.
struct Word {
    typedef word type;
    static __device__ void convert(Words w, word* out) { for (int i = 0; i < 4; ++i) out[i] = w.w[i]; }
};

template <typename real> struct Uniform {
    typedef real type;
    static __device__ void convert(Words w, real* out) {
        for (int i = 0; i < 4; ++i)
            out[i] = sizeof(real) == 4 ? (real)(w.w[i] >> 8) * (real)0x1p-24 : (real)w.w[i] * (real)0x1p-32;
    }
};

template <typename real> struct Normal {
    typedef real type;
    static __device__ void convert(Words w, real* out) {
        for (int i = 0; i < 4; i += 2) {
            word a = w.w[i], b = w.w[i + 1];
            real u = ((real)a + (real)0.5) * (real)0x1p-32, rest = ((real)~a + (real)0.5) * (real)0x1p-32;
            real r = sqrt((real)-2 * (u > (real)0.5 ? log1p(-rest) : log(u)));
            real s, c;
            sine_cosine_pi((real)(int)(b << 2) * (real)0x1p-33, &s, &c);
            r = b >> 31 ? -r : r;
            bool exchanged = b & 0x40000000u;
            out[i] = r * (exchanged ? s : c);
            out[i + 1] = r * (exchanged ? c : s);
        }
    }
};

template <typename Distribution>
__device__ void fill(wide key, wide start, wide count, typename Distribution::type* out) {
    wide stop = start + count, step = (wide)gridDim.x * blockDim.x;
    for (wide c = start / 4 + (wide)blockIdx.x * blockDim.x + threadIdx.x; 4 * c < stop; c += step) {
        typename Distribution::type numbers[4];
        Distribution::convert(philox4x32(c, key), numbers);
        for (int i = 0; i < 4; ++i)
            if (4 * c + i >= start && 4 * c + i < stop) out[4 * c + i - start] = numbers[i];
    }
}

// One word makes 32 signs, so start and count are positions of signs. The threads of a block share their words, so that
// neighbouring threads write neighbouring signs.
const int threads = 256;

template <typename real> __device__ void fill_signs(wide key, wide start, wide count, real* out) {
    __shared__ word words[4 * threads];
    wide stop = start + count;
    for (wide c = start / 128 + (wide)blockIdx.x * threads; 128 * c < stop; c += (wide)gridDim.x * threads) {
        Words own = philox4x32(c + threadIdx.x, key);
        for (int i = 0; i < 4; ++i) words[4 * threadIdx.x + i] = own.w[i];
        __syncthreads();
        for (int i = threadIdx.x; i < 128 * threads; i += threads) {
            wide position = 128 * c + i;
            if (position >= start && position < stop)
                out[position - start] = words[i / 32] >> (i % 32) & 1 ? (real)-1 : (real)1;
        }
        __syncthreads();
    }
}

extern "C" {
__global__ void words_uint32(wide key, wide start, wide count, word* out) { fill<Word>(key, start, count, out); }
__global__ void uniform_float64(wide key, wide start, wide count, double* out) {
    fill<Uniform<double>>(key, start, count, out);
}
__global__ void uniform_float32(wide key, wide start, wide count, float* out) {
    fill<Uniform<float>>(key, start, count, out);
}
__global__ void normal_float64(wide key, wide start, wide count, double* out) {
    fill<Normal<double>>(key, start, count, out);
}
__global__ void normal_float32(wide key, wide start, wide count, float* out) {
    fill<Normal<float>>(key, start, count, out);
}
__global__ void signs_float64(wide key, wide start, wide count, double* out) { fill_signs(key, start, count, out); }
__global__ void signs_float32(wide key, wide start, wide count, float* out) { fill_signs(key, start, count, out); }
}
"""
}

_THREADS = 256  # as in the source
_MAX_BLOCKS = 1 << 16  # beyond that a thread takes several counters


@cache
def _kernel(name):
    import cupy

    return cupy.RawModule(code=SOURCES["philox"]).get_function(name)


def _fill(distribution, key, start, count, dtype, per_counter):
    import cupy

    out = cupy.empty(count, dtype=dtype)
    counters = -(-(start + count) // per_counter) - start // per_counter
    if count > 0:
        blocks = min(-(-counters // _THREADS), _MAX_BLOCKS)
        arguments = (cupy.uint64(key), cupy.uint64(start), cupy.uint64(count), out)
        _kernel(f"{distribution}_{out.dtype.name}")((blocks,), (_THREADS,), arguments)
    return out


def philox_words(key, start, count, like):
    """CUDA variant of `optlib.backend.philox.philox_words`."""
    return _fill("words", key, start, count, "uint32", 4)


def philox_uniform(key, start, count, like):
    """CUDA variant of `optlib.backend.philox.philox_uniform`."""
    return _fill("uniform", key, start, count, like.dtype, 4)


def philox_normal(key, start, count, like):
    """CUDA variant of `optlib.backend.philox.philox_normal`."""
    return _fill("normal", key, start, count, like.dtype, 4)


def philox_rademacher(key, start, count, like):
    """CUDA variant of `optlib.backend.philox.philox_rademacher`."""
    return _fill("signs", key, start, count, like.dtype, 128)
