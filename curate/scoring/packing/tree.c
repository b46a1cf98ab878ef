/* Attention of a pack on a CPU, in float32: a branch sees its root and itself. [ours]

   One kernel does all the work: six rows of products with as many columns as fit the registers. */

#include <stdlib.h>
#include <string.h>

#include "../../models/products/vectors.h"

#define TILE 6                    /* rows of products at a time */
#define PANEL (WIDTH * VECTORS)   /* columns of products at a time */
#define BLOCK 48                  /* queries at a time, of all heads that share a key: a multiple of TILE */

typedef struct {
    int64_t root, root_length, start, length;
} branch;

/* c [rows, vectors * WIDTH] = or += a [TILE, depth] b [depth, ...]; all TILE rows of a are read. */
static inline __attribute__((always_inline)) void tile(
    int vectors, int64_t depth, const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row,
    float *c, int64_t c_row, int rows, int add) {
    vector sums[TILE][VECTORS];
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < vectors; j++) sums[i][j] = add && i < rows ? ((const vector *)(c + i * c_row))[j] : splat(0);
    for (int64_t k = 0; k < depth; k++) {
        vector right[VECTORS];
        for (int j = 0; j < vectors; j++) right[j] = ((const vector *)(b + k * b_row))[j];
        for (int i = 0; i < TILE; i++) {
            const vector left = splat(a[i * a_row + k * a_column]);
            for (int j = 0; j < vectors; j++) sums[i][j] += left * right[j];
        }
    }
    for (int i = 0; i < TILE && i < rows; i++)
        for (int j = 0; j < vectors; j++) ((vector *)(c + i * c_row))[j] = sums[i][j];
}

/* As tile, of any number of columns that is a multiple of WIDTH. */
static void multiply(int64_t columns, int64_t depth, const float *a, int64_t a_row, int64_t a_column, const float *b,
                     int64_t b_row, float *c, int64_t c_row, int rows, int add) {
    for (; columns >= PANEL; columns -= PANEL, b += PANEL, c += PANEL)
        tile(VECTORS, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add);
    switch (columns / WIDTH) {
#if VECTORS > 3
    case 3: tile(3, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add); break;
    case 2: tile(2, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add); break;
#endif
    case 1: tile(1, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add); break;
    }
}

/* Rows [count, width] -> panels [ceil(count / PANEL), width, PANEL], zeros behind the last. */
static void to_panels(const float *rows, int64_t row, int64_t count, int64_t width, float *panels) {
    for (int64_t first = 0; first < count; first += PANEL, panels += width * PANEL)
        for (int64_t d0 = 0; d0 < width; d0 += WIDTH)
            for (int64_t j = 0; j < PANEL; j++) {
                if (first + j >= count) {
                    for (int64_t d = d0; d < d0 + WIDTH; d++) panels[d * PANEL + j] = 0;
                    continue;
                }
                const float *source = rows + (first + j) * row;
                for (int64_t d = d0; d < d0 + WIDTH; d++) panels[d * PANEL + j] = source[d];
            }
}

static inline int64_t padded(int64_t count) { return (count + PANEL - 1) / PANEL * PANEL; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static float *room(int64_t floats) {
    void *found = NULL;
    return posix_memalign(&found, 64, 4 * (size_t)floats) ? NULL : found;
}

/* Keys that a query of a branch sees: of its root [from, root_length), of the branch [own_from, query]. */
typedef struct {
    int64_t from, own_from;
} seen;

static inline seen sees(const branch *b, int64_t query, int64_t window) {
    if (!window) return (seen){0, 0};
    return (seen){least(b->root_length, most(0, b->root_length + query - window + 1)), most(0, query - window + 1)};
}

/* Where each range's panels start; every branch's own, and its root's, which is the own range of another. */
typedef struct {
    int64_t root, own;
} places;

static int64_t place(const branch *branches, int64_t count, places *at) {
    int64_t used = 0;
    for (int64_t b = 0; b < count; b++) {
        at[b].own = used;
        used += padded(branches[b].length);
        at[b].root = 0;
        if (!branches[b].root_length) continue;
        int64_t r = b - 1;
        while (r >= 0 && branches[r].start != branches[b].root) r--;
        if (r < 0) return -1;
        at[b].root = at[r].own;
    }
    return used;
}

static void all_panels(const branch *branches, int64_t count, const places *at, const float *rows, int64_t row,
                       int64_t width, float *panels) {
    for (int64_t b = 0; b < count; b++)
        to_panels(rows + branches[b].start * row, row, branches[b].length, width, panels + at[b].own * width);
}

/* out [T, heads, values], norms [T, heads]: of the key heads [first, last). Roots come before their branches.
   0, or 1 where memory is short, or 2 where a root is no branch. */
int attend(const float *q, const float *k, const float *v, float *out, float *norms, int64_t heads, int64_t key_heads,
           int64_t width, int64_t values, const branch *branches, int64_t count, float scale, int64_t window,
           int64_t first, int64_t last) {
    const int64_t group = heads / key_heads, per_block = most(1, BLOCK / group);
    const int64_t rows = (per_block * group + TILE - 1) / TILE * TILE;
    int64_t longest = 0;
    for (int64_t b = 0; b < count; b++)
        longest = most(longest, padded(branches[b].root_length) + padded(branches[b].length));
    places *at = malloc(sizeof(places) * (size_t)count);
    const int64_t used = at ? place(branches, count, at) : 0;
    if (used < 0) return free(at), 2;
    float *panels = room(used * width + 1), *block = room(rows * width), *scores = room(rows * longest + 64),
          *sums = room(rows * values);
    int failed = !at || !panels || !block || !scores || !sums;
    for (int64_t h = first; h < last && !failed; h++) {
        all_panels(branches, count, at, k + h * width, key_heads * width, width, panels);
        for (int64_t b = 0; b < count; b++) {
            const branch *br = &branches[b];
            const int64_t root_columns = padded(br->root_length);
            for (int64_t start = 0; start < br->length; start += per_block) {
                const int64_t here = least(per_block, br->length - start), used_rows = here * group;
                for (int64_t i = 0; i < here; i++)
                    for (int64_t g = 0; g < group; g++) {
                        const float *source = q + ((br->start + start + i) * heads + h * group + g) * width;
                        float *row = block + (i * group + g) * width;
                        for (int64_t d = 0; d < width; d++) row[d] = source[d] * scale;
                    }
                memset(sums, 0, sizeof(float) * (size_t)(rows * values));
                const seen widest = sees(br, start, window);
                /* products with keys, panel by panel */
                for (int own = 0; own < 2; own++) {
                    const float *from = panels + (own ? at[b].own : at[b].root) * width;
                    const int64_t low = (own ? widest.own_from : widest.from) / PANEL * PANEL;
                    const int64_t high = own ? start + here : br->root_length;
                    for (int64_t key = low; key < high; key += PANEL)
                        for (int64_t r = 0; r < used_rows; r += TILE) {
                            const int64_t end = own ? start + least(here - 1, (r + TILE - 1) / group) + 1 : high;
                            if (end <= key) continue;
                            const int64_t columns = least(PANEL, (end - key + WIDTH - 1) / WIDTH * WIDTH);
                            multiply(columns, width, block + r * width, width, 1, from + key * width, PANEL,
                                     scores + r * longest + own * root_columns + key, longest, TILE, 0);
                        }
                }
                /* softmax */
                for (int64_t r = 0; r < used_rows; r++) {
                    const int64_t query = start + r / group;
                    const seen mine = sees(br, query, window);
                    float *row = scores + r * longest;
                    const int64_t tile_end = start + least(here - 1, (r / TILE * TILE + TILE - 1) / group) + 1;
                    vector highest = splat(-INFINITY);
                    for (int own = 0; own < 2; own++) {
                        float *part = row + own * root_columns;
                        const int64_t low = (own ? widest.own_from : widest.from) / PANEL * PANEL;
                        const int64_t from = own ? mine.own_from : mine.from;
                        const int64_t to = own ? query + 1 : br->root_length, end = own ? tile_end : br->root_length;
                        for (int64_t j = low; j < from; j++) part[j] = -INFINITY;
                        const int64_t edge = (end + WIDTH - 1) / WIDTH * WIDTH;
                        for (int64_t j = to; j < edge; j++) part[j] = -INFINITY;
                        for (int64_t j = low; j < edge; j += WIDTH) {
                            const vector x = *(const vector *)(part + j);
                            highest = larger(x, highest);
                        }
                    }
                    float top = highest[0];
                    for (int j = 1; j < WIDTH; j++) top = highest[j] > top ? highest[j] : top;
                    vector total = splat(0);
                    for (int own = 0; own < 2; own++) {
                        float *part = row + own * root_columns;
                        const int64_t low = (own ? widest.own_from : widest.from) / PANEL * PANEL;
                        const int64_t end = own ? tile_end : br->root_length;
                        const int64_t edge = (end + WIDTH - 1) / WIDTH * WIDTH;
                        for (int64_t j = low; j < edge; j += WIDTH) {
                            const vector x = exponential(*(const vector *)(part + j) - top);
                            *(vector *)(part + j) = x;
                            total += x;
                        }
                    }
                    norms[(br->start + query) * heads + h * group + r % group] = top + logf(sum(total));
                    block[r] = 1 / sum(total); /* the queries are no longer needed */
                }
                /* products with values, as many keys at a time */
                for (int own = 0; own < 2; own++) {
                    const int64_t low = (own ? widest.own_from : widest.from) / PANEL * PANEL;
                    const int64_t high = own ? start + here : br->root_length;
                    const float *from = v + ((own ? br->start : br->root) * key_heads + h) * values;
                    for (int64_t key = low; key < high; key += PANEL)
                        for (int64_t r = 0; r < used_rows; r += TILE) {
                            const int64_t end = own ? start + least(here - 1, (r + TILE - 1) / group) + 1 : high;
                            if (end <= key) continue;
                            multiply(values, least(PANEL, end - key), scores + r * longest + own * root_columns + key,
                                     longest, 1, from + key * key_heads * values, key_heads * values,
                                     sums + r * values, values, TILE, 1);
                        }
                }
                for (int64_t r = 0; r < used_rows; r++) {
                    float *to = out + ((br->start + start + r / group) * heads + h * group + r % group) * values;
                    for (int64_t d = 0; d < values; d++) to[d] = sums[r * values + d] * block[r];
                }
            }
        }
    }
    free(at), free(panels), free(block), free(scores), free(sums);
    return failed;
}

/* Gradients of attend: of_q [T, heads, width] is written; of_k and of_v are added to. */
int attend_backward(const float *q, const float *k, const float *v, const float *out, const float *norms,
                    const float *slope, float *of_q, float *of_k, float *of_v, int64_t heads, int64_t key_heads,
                    int64_t width, int64_t values, const branch *branches, int64_t count, float scale, int64_t window,
                    int64_t first, int64_t last) {
    const int64_t group = heads / key_heads, per_block = most(1, BLOCK / group);
    const int64_t rows = (per_block * group + TILE - 1) / TILE * TILE;
    places *at = malloc(sizeof(places) * (size_t)count);
    const int64_t used = at ? place(branches, count, at) : 0;
    if (used < 0) return free(at), 2;
    float *key_panels = room(used * width + 1), *value_panels = room(used * values + 1), *block = room(rows * width),
          *slopes = room(rows * values), *sums = room(rows * width), *chances = room(rows * PANEL + 64),
          *changes = room(rows * PANEL + 64), *norm = room(2 * rows);
    int failed = !at || !key_panels || !value_panels || !block || !slopes || !sums || !chances || !changes || !norm;
    for (int64_t h = first; h < last && !failed; h++) {
        all_panels(branches, count, at, k + h * width, key_heads * width, width, key_panels);
        all_panels(branches, count, at, v + h * values, key_heads * values, values, value_panels);
        for (int64_t b = 0; b < count; b++) {
            const branch *br = &branches[b];
            for (int64_t start = 0; start < br->length; start += per_block) {
                const int64_t here = least(per_block, br->length - start), used_rows = here * group;
                float *delta = norm + rows;
                for (int64_t r = 0; r < used_rows; r++) {
                    const int64_t token = (br->start + start + r / group) * heads + h * group + r % group;
                    for (int64_t d = 0; d < width; d++) block[r * width + d] = q[token * width + d] * scale;
                    float total = 0;
                    for (int64_t d = 0; d < values; d++) {
                        slopes[r * values + d] = slope[token * values + d];
                        total += slope[token * values + d] * out[token * values + d];
                    }
                    norm[r] = norms[token], delta[r] = total;
                }
                memset(sums, 0, sizeof(float) * (size_t)(rows * width));
                const seen widest = sees(br, start, window);
                for (int own = 0; own < 2; own++) {
                    const int64_t low = (own ? widest.own_from : widest.from) / PANEL * PANEL;
                    const int64_t high = own ? start + here : br->root_length;
                    const int64_t range = own ? br->start : br->root, panel = own ? at[b].own : at[b].root;
                    for (int64_t key = low; key < high; key += PANEL) {
                        const int64_t keys = least(PANEL, high - key), columns = (keys + WIDTH - 1) / WIDTH * WIDTH;
                        /* rows before see none of these keys */
                        const int64_t above = own ? most(0, key - start) * group / TILE * TILE : 0;
                        for (int64_t r = above; r < used_rows; r += TILE) {
                            float *p = chances + r * PANEL, *c = changes + r * PANEL;
                            multiply(columns, width, block + r * width, width, 1, key_panels + (panel + key) * width,
                                     PANEL, p, PANEL, TILE, 0);
                            multiply(columns, values, slopes + r * values, values, 1,
                                     value_panels + (panel + key) * values, PANEL, c, PANEL, TILE, 0);
                            for (int64_t i = r; i < r + TILE && i < used_rows; i++, p += PANEL, c += PANEL) {
                                const int64_t query = start + i / group;
                                const seen mine = sees(br, query, window);
                                const int64_t from = (own ? mine.own_from : mine.from) - key;
                                const int64_t to = (own ? query + 1 : br->root_length) - key;
                                for (int64_t j = 0; j < columns; j += WIDTH) {
                                    vector *chance = (vector *)(p + j), *change = (vector *)(c + j);
                                    *chance = exponential(*chance - norm[i]);
                                    *change = *chance * (*change - delta[i]);
                                }
                                for (int64_t j = 0; j < columns && j < from; j++) p[j] = c[j] = 0;
                                for (int64_t j = most(0, to); j < columns; j++) p[j] = c[j] = 0;
                            }
                            const float *of_keys = k + ((range + key) * key_heads + h) * width;
                            multiply(width, keys, changes + r * PANEL, PANEL, 1, of_keys, key_heads * width,
                                     sums + r * width, width, TILE, 1);
                        }
                        for (int64_t j = 0; j < keys; j += TILE) {
                            const int64_t token = (range + key + j) * key_heads + h, depth = used_rows - above;
                            const int height = (int)least(TILE, keys - j);
                            multiply(values, depth, chances + above * PANEL + j, 1, PANEL, slopes + above * values,
                                     values, of_v + token * values, key_heads * values, height, 1);
                            multiply(width, depth, changes + above * PANEL + j, 1, PANEL, block + above * width, width,
                                     of_k + token * width, key_heads * width, height, 1);
                        }
                    }
                }
                for (int64_t r = 0; r < used_rows; r++) {
                    float *to = of_q + ((br->start + start + r / group) * heads + h * group + r % group) * width;
                    for (int64_t d = 0; d < width; d++) to[d] = sums[r * width + d] * scale;
                }
            }
        }
    }
    free(at), free(key_panels), free(value_panels), free(block), free(slopes), free(sums), free(chances), free(changes);
    free(norm);
    return failed;
}
