/* Rotary position embedding, in float32: what the three steps of transformers give, to the bit. [ours]

   x [tokens, heads, width] -> x cos + (-second half, first half of x) sin, where cos and sin are [tokens, width]; and
   its gradient. To be compiled without fused products and sums. */

#include <stdint.h>

void rotate(const float *restrict x, const float *restrict cosine, const float *restrict sine, float *restrict out,
            int64_t tokens, int64_t heads, int64_t width) {
    const int64_t half = width / 2;
    for (int64_t t = 0; t < tokens; t++, cosine += width, sine += width)
        for (int64_t h = 0; h < heads; h++, x += width, out += width)
            for (int64_t d = 0; d < half; d++) {
                out[d] = x[d] * cosine[d] + -x[d + half] * sine[d];
                out[d + half] = x[d + half] * cosine[d + half] + x[d] * sine[d + half];
            }
}

void rotate_backward(const float *restrict slope, const float *restrict cosine, const float *restrict sine,
                     float *restrict out, int64_t tokens, int64_t heads, int64_t width) {
    const int64_t half = width / 2;
    for (int64_t t = 0; t < tokens; t++, cosine += width, sine += width)
        for (int64_t h = 0; h < heads; h++, slope += width, out += width)
            for (int64_t d = 0; d < half; d++) {
                out[d] = slope[d] * cosine[d] + slope[d + half] * sine[d + half];
                out[d + half] = slope[d + half] * cosine[d + half] + -(slope[d] * sine[d]);
            }
}
