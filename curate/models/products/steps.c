/* Steps between products, each in one pass over what it reads. [ours]

   Where a function takes `half`, what it calls numbers is bfloat16 where that is not 0, and float32 where it is;
   everything is computed in float32. */

#include <stdlib.h>
#include <string.h>

#include "vectors.h"

/* Numbers [i, i + count) of an array; the rest of the vector is 0. */
static inline vector read(const void *numbers, int64_t i, int64_t count, int64_t half) {
    vector x = splat(0);
    if (half) {
        const uint16_t *at = (const uint16_t *)numbers + i;
        if (count >= WIDTH) return widen(*(const halves *)at);
        halves some = {0};
        for (int64_t c = 0; c < count; c++) some[c] = at[c];
        return widen(some);
    }
    const float *at = (const float *)numbers + i;
    if (count >= WIDTH) return *(const vector *)at;
    for (int64_t c = 0; c < count; c++) x[c] = at[c];
    return x;
}

static inline void write(void *numbers, int64_t i, int64_t count, int64_t half, vector x) {
    if (half) {
        uint16_t *at = (uint16_t *)numbers + i;
        const halves some = narrow(x);
        if (count >= WIDTH) *(halves *)at = some;
        else for (int64_t c = 0; c < count; c++) at[c] = some[c];
        return;
    }
    float *at = (float *)numbers + i;
    if (count >= WIDTH) *(vector *)at = x;
    else for (int64_t c = 0; c < count; c++) at[c] = x[c];
}

/* The body for either dtype, so that the compiler makes two loops of it. */
#define FOR_EITHER(half, function, ...) \
    do { if (half) function(__VA_ARGS__, 1); else function(__VA_ARGS__, 0); } while (0)
#define INLINE static inline __attribute__((always_inline)) void

INLINE sums(const void *logits, const float *shift, float *found, int64_t row, int64_t columns, int64_t first,
            int64_t last, int64_t half) {
    for (int64_t r = first; r < last; r++) {
        vector total = splat(0);
        int64_t c = 0;
        for (; c + WIDTH <= columns; c += WIDTH) total += exponential(read(logits, r * row + c, WIDTH, half) - shift[r]);
        float rest = 0;
        if (c < columns) {
            const vector x = exponential(read(logits, r * row + c, columns - c, half) - shift[r]);
            for (int64_t i = 0; i < columns - c; i++) rest += x[i];
        }
        found[r] = sum(total) + rest;
    }
}

/* found[r] = sum over columns of e^(logits[r] - shift[r]); a row of logits begins `row` numbers after the one before. */
void sum_exp(const void *logits, const float *shift, float *found, int64_t row, int64_t columns, int64_t half,
             int64_t first, int64_t last) {
    FOR_EITHER(half, sums, logits, shift, found, row, columns, first, last);
}

INLINE slopes(void *logits, const float *norm, const float *scale, const int64_t *targets, int64_t columns,
              int64_t first, int64_t last, int64_t half) {
    for (int64_t r = first; r < last; r++) {
        const int64_t start = r * columns, own = targets[r];
        const int here = own >= 0 && own < columns;
        const float logit = here ? read(logits, start + own, 1, half)[0] : 0;
        for (int64_t c = 0; c < columns; c += WIDTH) {
            const vector x = read(logits, start + c, columns - c, half);
            write(logits, start + c, columns - c, half, exponential(x - norm[r]) * -scale[r]);
        }
        if (here) write(logits, start + own, 1, half, splat(scale[r] - scale[r] * expf(logit - norm[r])));
    }
}

/* logits[r] = scale[r] (onehot(targets[r]) - e^(logits[r] - norm[r])); a target outside the columns is in none. */
void softmax_slope(void *logits, const float *norm, const float *scale, const int64_t *targets, int64_t columns,
                   int64_t half, int64_t first, int64_t last) {
    FOR_EITHER(half, slopes, logits, norm, scale, targets, columns, first, last);
}

INLINE gates(void *gated, const void *raised, void *out, int64_t first, int64_t last, int64_t half) {
    for (int64_t i = first; i < last; i += WIDTH) {
        const vector x = read(gated, i, last - i, half);
        write(out, i, last - i, half, x / (1.f + exponential(-x)) * read(raised, i, last - i, half));
    }
}

/* out = silu(gated) raised, where silu(x) = x / (1 + e^-x); out may be gated. */
void gate(void *gated, const void *raised, void *out, int64_t half, int64_t first, int64_t last) {
    FOR_EITHER(half, gates, gated, raised, out, first, last);
}

INLINE gate_slopes(const void *gated, const void *raised, void *slope, void *out, void *of_raised, int64_t first,
                   int64_t last, int64_t half) {
    for (int64_t i = first; i < last; i += WIDTH) {
        const int64_t count = last - i;
        const vector x = read(gated, i, count, half), y = read(raised, i, count, half);
        const vector along = read(slope, i, count, half), sigmoid = 1.f / (1.f + exponential(-x));
        const vector active = x * sigmoid;
        write(out, i, count, half, active * y);
        write(of_raised, i, count, half, along * active);
        write(slope, i, count, half, along * y * (sigmoid + active * (1.f - sigmoid)));
    }
}

/* out as of `gate`, and from its slope that of raised and, in the slope's place, that of gated. */
void gate_backward(const void *gated, const void *raised, void *slope, void *out, void *of_raised, int64_t half,
                   int64_t first, int64_t last) {
    FOR_EITHER(half, gate_slopes, gated, raised, slope, out, of_raised, first, last);
}

INLINE norms(const float *x, const float *weight, float *scale, void *out, int64_t columns, float eps, int64_t first,
             int64_t last, int64_t half) {
    for (int64_t r = first; r < last; r++) {
        const int64_t start = r * columns;
        vector squares = splat(0);
        for (int64_t c = 0; c < columns; c += WIDTH) {
            const vector own = read(x, start + c, columns - c, 0);
            squares += own * own;
        }
        scale[r] = 1.f / sqrtf(sum(squares) / columns + eps);
        for (int64_t c = 0; c < columns; c += WIDTH) {
            const vector normed = read(x, start + c, columns - c, 0) * scale[r] * read(weight, c, columns - c, 0);
            write(out, start + c, columns - c, half, normed);
        }
    }
}

/* scale[r] = 1 / sqrt(mean of x[r]^2 + eps), and out = x scale weight: numbers. */
void norm(const float *x, const float *weight, float *scale, void *out, int64_t columns, float eps, int64_t half,
          int64_t first, int64_t last) {
    FOR_EITHER(half, norms, x, weight, scale, out, columns, eps, first, last);
}

INLINE norm_slopes(const float *x, const float *weight, const float *scale, const void *slope, float *of_x,
                   int64_t columns, int64_t first, int64_t last, int64_t half) {
    for (int64_t r = first; r < last; r++) {
        const int64_t start = r * columns;
        vector total = splat(0);
        for (int64_t c = 0; c < columns; c += WIDTH)
            total += read(slope, start + c, columns - c, half) * read(weight, c, columns - c, 0) *
                     read(x, start + c, columns - c, 0);
        const float along = sum(total) * scale[r] * scale[r] / columns;
        for (int64_t c = 0; c < columns; c += WIDTH) {
            const vector scaled = read(slope, start + c, columns - c, half) * read(weight, c, columns - c, 0);
            write(of_x, start + c, columns - c, 0, (scaled - read(x, start + c, columns - c, 0) * along) * scale[r]);
        }
    }
}

/* From the slope of `norm`'s out, numbers, that of x. */
void norm_backward(const float *x, const float *weight, const float *scale, const void *slope, float *of_x,
                   int64_t columns, int64_t half, int64_t first, int64_t last) {
    FOR_EITHER(half, norm_slopes, x, weight, scale, slope, of_x, columns, first, last);
}

INLINE norm_weights(const float *x, const float *scale, const void *slope, float *found, int64_t rows,
                    int64_t columns, int64_t first, int64_t last, int64_t half) {
    memset(found + first, 0, (last - first) * sizeof *found);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = first; c < last; c += WIDTH) {
            const int64_t count = last - c, at = r * columns + c;
            const vector part = read(x, at, count, 0) * scale[r] * read(slope, at, count, half);
            write(found, c, count, 0, read(found, c, count, 0) + part);
        }
}

/* That of its weight: columns [first, last). */
void norm_weight(const float *x, const float *scale, const void *slope, float *found, int64_t rows, int64_t columns,
                 int64_t half, int64_t first, int64_t last) {
    FOR_EITHER(half, norm_weights, x, scale, slope, found, rows, columns, first, last);
}

/* out [columns, rows] = x [rows, columns] transposed, of columns [first, last): square by square, so that what is read
   a row at a time and written a column at a time is in the cache. */
void transpose(const float *x, float *out, int64_t rows, int64_t columns, int64_t first, int64_t last) {
    enum { SIDE = 16 };
    for (int64_t c = first; c < last; c += SIDE)
        for (int64_t r = 0; r < rows; r += SIDE) {
            const int64_t wide = last - c < SIDE ? last - c : SIDE, high = rows - r < SIDE ? rows - r : SIDE;
            if (wide == SIDE && high == SIDE) {
                float square[SIDE][SIDE];
                for (int i = 0; i < SIDE; i++)
                    for (int j = 0; j < SIDE; j++) square[j][i] = x[(r + i) * columns + c + j];
                for (int j = 0; j < SIDE; j++) memcpy(out + (c + j) * rows + r, square[j], sizeof square[j]);
            } else
                for (int64_t j = 0; j < wide; j++)
                    for (int64_t i = 0; i < high; i++) out[(c + j) * rows + r + i] = x[(r + i) * columns + c + j];
        }
}
