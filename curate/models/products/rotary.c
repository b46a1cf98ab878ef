/* Rotary position embedding, in float32: what the three steps of transformers give, to the bit. [ours]

   x [tokens, heads, width] -> x cos + (-second half, first half of x) sin, where cos and sin are [tokens, width]; and
   its gradient. For tokens [first, last). To be compiled without fused products and sums. */

#include <stdint.h>

void rotate(const float *restrict x, const float *restrict cosine, const float *restrict sine, float *restrict out,
            int64_t heads, int64_t width, int64_t first, int64_t last) {
    const int64_t half = width / 2;
    for (int64_t t = first; t < last; t++)
        for (int64_t h = t * heads; h < (t + 1) * heads; h++) {
            const float *from = x + h * width, *c = cosine + t * width, *s = sine + t * width;
            float *to = out + h * width;
            for (int64_t d = 0; d < half; d++) {
                to[d] = from[d] * c[d] + -from[d + half] * s[d];
                to[d + half] = from[d + half] * c[d + half] + from[d] * s[d + half];
            }
        }
}

void rotate_backward(const float *restrict slope, const float *restrict cosine, const float *restrict sine,
                     float *restrict out, int64_t heads, int64_t width, int64_t first, int64_t last) {
    const int64_t half = width / 2;
    for (int64_t t = first; t < last; t++)
        for (int64_t h = t * heads; h < (t + 1) * heads; h++) {
            const float *from = slope + h * width, *c = cosine + t * width, *s = sine + t * width;
            float *to = out + h * width;
            for (int64_t d = 0; d < half; d++) {
                to[d] = from[d] * c[d] + from[d + half] * s[d + half];
                to[d + half] = from[d + half] * c[d + half] + -(from[d] * s[d]);
            }
        }
}
