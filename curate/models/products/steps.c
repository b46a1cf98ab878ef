/* Steps between products, in float32, each in one pass over what it reads. [ours] */

#include "vectors.h"

/* found[r] = sum over columns of e^(logits[r] - shift[r]); a row of logits begins `row` floats after the one before. */
void sum_exp(const float *logits, const float *shift, float *found, int64_t row, int64_t columns, int64_t first,
             int64_t last) {
    for (int64_t r = first; r < last; r++) {
        const float *at = logits + r * row;
        vector total = splat(0);
        int64_t c = 0;
        for (; c + WIDTH <= columns; c += WIDTH) total += exponential(*(const vector *)(at + c) - shift[r]);
        float rest = 0;
        for (; c < columns; c++) rest += expf(at[c] - shift[r]);
        found[r] = sum(total) + rest;
    }
}

/* gated = silu(gated) raised, where silu(x) = x / (1 + e^-x). */
void gate(float *gated, const float *raised, int64_t first, int64_t last) {
    int64_t i = first;
    for (; i + WIDTH <= last; i += WIDTH) {
        const vector x = *(const vector *)(gated + i);
        *(vector *)(gated + i) = x / (1.f + exponential(-x)) * *(const vector *)(raised + i);
    }
    for (; i < last; i++) gated[i] = gated[i] / (1.f + expf(-gated[i])) * raised[i];
}
