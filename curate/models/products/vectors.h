/* Vectors as wide as the processor's, and their exponential. [ours] */

#pragma once

#include <math.h>
#include <stdint.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) /* 32 registers of 16 floats */
#define WIDTH 16
#define VECTORS 4
#elif defined(__AVX2__) /* 16 of 8 */
#define WIDTH 8
#define VECTORS 2
#elif defined(__ARM_NEON) /* 32 of 4 */
#define WIDTH 4
#define VECTORS 4
#else
#define WIDTH 4
#define VECTORS 2
#endif

typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

typedef uint32_t naturals __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias)); /* bfloat16 */

static inline vector splat(float x) { return x - (vector){0}; }
static inline vector choose(integers which, vector a, vector b) {
    return (vector)(((integers)a & which) | ((integers)b & ~which));
}
/* Of what is no number the second. */
#if defined(__AVX512F__)
static inline vector larger(vector a, vector b) { return (vector)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vector smaller(vector a, vector b) { return (vector)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
static inline vector larger(vector a, vector b) { return (vector)_mm256_max_ps((__m256)a, (__m256)b); }
static inline vector smaller(vector a, vector b) { return (vector)_mm256_min_ps((__m256)a, (__m256)b); }
#else
static inline vector larger(vector a, vector b) { return choose(a > b, a, b); }
static inline vector smaller(vector a, vector b) { return choose(a < b, a, b); }
#endif

/* bfloat16 is the first half of a float; to the nearest one, or of two the even. */
static inline vector widen(halves x) { return (vector)(__builtin_convertvector(x, naturals) << 16); }
static inline halves narrow(vector x) {
    const naturals bits = (naturals)x, rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const naturals nan = (naturals)(x != x);
    return __builtin_convertvector(((nan & 0x7fc0) | (~nan & (rounded >> 16))), halves);
}

/* e^x of each, to 2 units in the last place: below -87 it is 0, above 88 e^88, and of NaN NaN. */
static inline vector exponential(vector given) {
    const vector x = smaller(splat(88), larger(splat(-87.3f), given));
    const vector magic = splat(12582912.f); /* 1.5 * 2^23: rounds to an integer */
    vector n = x * 1.44269504f + magic;
    integers exponent = ((integers)n - (integers)magic) << 23;
    n -= magic;
    vector r = x - n * 0.693145752f;
    r -= n * 1.42860677e-6f;
    vector p = splat(1.98756915e-4f);
    p = p * r + 1.39819995e-3f;
    p = p * r + 8.33345190e-3f;
    p = p * r + 4.16657962e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.f;
    /* p times 2^n; of NaN the exponent is 0. */
    return choose(given < -87.f, splat(0), (vector)((integers)p + exponent));
}

static inline float sum(vector x) {
    float total = 0;
    for (int i = 0; i < WIDTH; i++) total += x[i];
    return total;
}
