/* Attention of a pack on a CPU and its gradient: a branch sees its root and itself. [ours]

   Queries are taken a block at a time, those of all heads that share a key as rows of one matrix. What they are
   multiplied with lies in panels, as wide as the registers hold sums of; what a block does not see is left out, and
   what some of its rows do not see is masked. Each branch is by itself: no number depends on another.

   What is multiplied is float32, a word each; or, where the processor multiplies bfloat16 (`half`), two numbers a word:
   neighbours along what is summed over. Sums and exponentials are float32. */

#include <stdlib.h>
#include <string.h>

#include "../../models/products/vectors.h"

#define TILE 6                  /* rows of products at a time */
#define PANEL (WIDTH * VECTORS) /* columns of products at a time */
#define BLOCK 48                /* rows of a block: a multiple of TILE */

enum { DONE, NO_MEMORY, NO_ROOT };

/* A prompt (its root_length is 0) or a response, as tokens of the pack. A prompt comes before its responses. */
typedef struct {
    int64_t root, root_length, start, length;
} branch;

typedef struct {
    int64_t heads, key_heads, group; /* heads / key_heads */
    int64_t width, values;           /* of queries and keys; of values: multiples of WIDTH */
    int half;                        /* 1: numbers are bfloat16 */
    int64_t width_words, values_words;
    const branch *branches;
    int64_t count, window; /* 0: none */
    float scale;
    int64_t queries, rows;           /* of a block, at most; rows is a multiple of TILE */
    int64_t *root_panels, *panels;   /* where each branch's keys begin among the panels, and its root's */
    int64_t used, longest;           /* columns of all panels; of one branch's and its root's */
} plan;

/* Keys that a block of queries sees: the first stretch is of the root, the second of the branch. */
typedef struct {
    int64_t token;     /* of key 0, in the pack */
    int64_t panel;     /* of key 0, among the panels */
    int64_t column;    /* of key 0, in a row of scores */
    int64_t low, high; /* seen by some query: [low, high), low a multiple of PANEL */
    int own;
} stretch;

typedef struct {
    const branch *branch;
    int64_t start, queries, rows;
    stretch stretches[2];
} block;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

static float *room(int64_t floats) {
    void *found = NULL;
    return posix_memalign(&found, 64, 4 * (size_t)floats + 256) ? NULL : found;
}

/* ---- words ---- */

typedef uint32_t natural __attribute__((may_alias));
typedef uint16_t bfloat __attribute__((may_alias));

#if defined(__AVX512BF16__)
#define HALVES 1
static inline vector pair_of(const float *word) { return (vector)_mm512_set1_epi32(*(const natural *)word); }
static inline vector add_pairs(vector sum, vector left, vector right) {
    return (vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}
static inline halves rounded(vector x) { return (halves)_mm512_cvtneps_pbh((__m512)x); }
#else
#define HALVES 0
static inline vector pair_of(const float *word) { return splat(*word); }
static inline vector add_pairs(vector sum, vector left, vector right) { return sum + left * right; }
static inline halves rounded(vector x) { return narrow(x); }
#endif

static inline float single(bfloat x) {
    const union { uint32_t bits; float number; } found = {(uint32_t)x << 16};
    return found.number;
}
static inline int64_t words(const plan *p, int64_t numbers) { return (numbers + p->half) >> p->half; }

/* bfloat16 rows -> words [rows / 2, width] of one row's number and the next one's, 0 behind the last row. */
static void pair_rows(const bfloat *rows, int64_t row, int64_t count, int64_t width, float *paired) {
    for (int64_t r = 0; r < count; r += 2) {
        const bfloat *one = rows + r * row, *next = one + row;
        natural *to = (natural *)(paired + r / 2 * width);
        if (r + 1 < count)
            for (int64_t d = 0; d < width; d++) to[d] = one[d] | (uint32_t)next[d] << 16;
        else
            for (int64_t d = 0; d < width; d++) to[d] = one[d];
    }
}

/* ---- products ---- */

/* c [TILE, vectors * WIDTH] = or += a [TILE, depth] b [depth, ...], depth in words. All rows of a are read, `rows` of c
   are written. */
static inline __attribute__((always_inline)) void tile(
    int half, int vectors, int64_t depth, const float *a, int64_t a_row, int64_t a_column, const float *b,
    int64_t b_row, float *c, int64_t c_row, int rows, int add) {
    vector sums[TILE][VECTORS];
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < vectors; j++)
            sums[i][j] = add && i < rows ? ((const vector *)(c + i * c_row))[j] : splat(0);
    for (int64_t k = 0; k < depth; k++) {
        vector right[VECTORS];
        for (int j = 0; j < vectors; j++) right[j] = ((const vector *)(b + k * b_row))[j];
        for (int i = 0; i < TILE; i++) {
            const float *word = a + i * a_row + k * a_column;
            if (half)
                for (int j = 0; j < vectors; j++) sums[i][j] = add_pairs(sums[i][j], pair_of(word), right[j]);
            else
                for (int j = 0; j < vectors; j++) sums[i][j] += splat(*word) * right[j];
        }
    }
    for (int i = 0; i < TILE && i < rows; i++)
        for (int j = 0; j < vectors; j++) ((vector *)(c + i * c_row))[j] = sums[i][j];
}

static inline __attribute__((always_inline)) void tiles(
    int half, int64_t columns, int64_t depth, const float *a, int64_t a_row, int64_t a_column, const float *b,
    int64_t b_row, float *c, int64_t c_row, int rows, int add) {
    for (; columns >= PANEL; columns -= PANEL, b += PANEL, c += PANEL)
        tile(half, VECTORS, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add);
    switch (columns / WIDTH) {
#if VECTORS > 2
    case 3: tile(half, 3, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add); break;
    case 2: tile(half, 2, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add); break;
#endif
    case 1: tile(half, 1, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add); break;
    }
}

/* As tile, of any number of columns that is a multiple of WIDTH. */
static void multiply(const plan *p, int64_t columns, int64_t depth, const float *a, int64_t a_row, int64_t a_column,
                     const float *b, int64_t b_row, float *c, int64_t c_row, int rows, int add) {
    if (HALVES && p->half)
        tiles(1, columns, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add);
    else
        tiles(0, columns, depth, a, a_row, a_column, b, b_row, c, c_row, rows, add);
}

/* Of every branch, rows [length, width] in words -> panels [length / PANEL, width, PANEL], zeros behind the last. */
static void to_panels(const plan *p, const float *rows, int64_t row, int64_t width, float *panels) {
    for (int64_t b = 0; b < p->count; b++) {
        const natural *from = (const natural *)rows + p->branches[b].start * row;
        natural *to = (natural *)panels + p->panels[b] * width;
        for (int64_t key = 0; key < up(p->branches[b].length, PANEL); key++) {
            natural *column = to + key / PANEL * PANEL * width + key % PANEL;
            const natural *source = key < p->branches[b].length ? from + key * row : NULL;
            for (int64_t d = 0; d < width; d++) column[d * PANEL] = source ? source[d] : 0;
        }
    }
}

/* Of every branch, bfloat16 rows [length, width] of a head -> paired [length / 2, width], each branch from its panel on. */
static void to_pairs(const plan *p, const float *rows, int64_t head, int64_t width, float *paired) {
    const int64_t row = p->key_heads * width;
    for (int64_t b = 0; b < p->count; b++) {
        const bfloat *from = (const bfloat *)rows + p->branches[b].start * row + head * width;
        pair_rows(from, row, p->branches[b].length, width, paired + p->panels[b] / 2 * width);
    }
}

/* ---- what sees what ---- */

static int make_plan(plan *p) {
    p->group = p->heads / p->key_heads;
    p->width_words = p->width >> p->half, p->values_words = p->values >> p->half;
    p->queries = most(1, BLOCK / p->group);
    p->rows = up(p->queries * p->group, TILE);
    p->used = p->longest = 0;
    p->panels = malloc(2 * sizeof(int64_t) * (size_t)most(1, p->count));
    if (!p->panels) return NO_MEMORY;
    p->root_panels = p->panels + p->count;
    for (int64_t b = 0; b < p->count; b++) {
        const branch *each = &p->branches[b];
        p->panels[b] = p->used;
        p->used += up(each->length, PANEL);
        p->longest = most(p->longest, up(each->root_length, PANEL) + up(each->length, PANEL));
        p->root_panels[b] = 0;
        if (!each->root_length) continue;
        int64_t root = b - 1;
        while (root >= 0 && p->branches[root].start != each->root) root--;
        if (root < 0) return NO_ROOT;
        p->root_panels[b] = p->panels[root];
    }
    return DONE;
}

static block make_block(const plan *p, int64_t b, int64_t start) {
    const branch *br = &p->branches[b];
    block found = {.branch = br, .start = start, .queries = least(p->queries, br->length - start)};
    found.rows = found.queries * p->group;
    /* what the first query sees */
    const int64_t root_low = p->window ? least(br->root_length, most(0, br->root_length + start - p->window + 1)) : 0;
    const int64_t low = p->window ? most(0, start - p->window + 1) : 0;
    const int64_t column = up(br->root_length, PANEL), end = start + found.queries;
    found.stretches[0] = (stretch){br->root, p->root_panels[b], 0, root_low / PANEL * PANEL, br->root_length, 0};
    found.stretches[1] = (stretch){br->start, p->panels[b], column, low / PANEL * PANEL, end, 1};
    return found;
}

/* The last query of a row's tile. */
static inline int64_t last_query(const plan *p, const block *b, int64_t row) {
    return b->start + least(b->queries - 1, (row / TILE * TILE + TILE - 1) / p->group);
}

/* Keys of a stretch that a row's tile sees end here. */
static inline int64_t tile_end(const plan *p, const block *b, const stretch *s, int64_t row) {
    return s->own ? last_query(p, b, row) + 1 : s->high;
}

/* Keys of a stretch that a query sees: [from, to). */
static inline int64_t seen_from(const plan *p, const block *b, const stretch *s, int64_t query) {
    const int64_t first = query - p->window + 1 + (s->own ? 0 : b->branch->root_length);
    return p->window ? most(0, first) : 0;
}
static inline int64_t seen_to(const stretch *s, int64_t query) { return s->own ? query + 1 : s->high; }

/* Where a row lies among [T, heads]. */
static inline int64_t place(const plan *p, const block *b, int64_t head, int64_t row) {
    return (b->branch->start + b->start + row / p->group) * p->heads + head * p->group + row % p->group;
}

/* width in words; bfloat16 is not scaled. */
static void take_rows(const plan *p, const block *b, int64_t head, const float *from, int64_t width, float scale,
                      float *rows) {
    for (int64_t r = 0; r < b->rows; r++) {
        const float *source = from + place(p, b, head, r) * width;
        if (p->half)
            memcpy(rows + r * width, source, sizeof(float) * (size_t)width);
        else
            for (int64_t d = 0; d < width; d++) rows[r * width + d] = source[d] * scale;
    }
}

/* To float32 or, with `half`, to bfloat16. */
static void put_rows(const plan *p, const block *b, int64_t head, const float *rows, int64_t width, const float *scales,
                     float scale, float *to, int half) {
    for (int64_t r = 0; r < b->rows; r++) {
        const int64_t at = place(p, b, head, r) * width;
        const float factor = scales ? scales[r] : scale;
        for (int64_t d = 0; d < width; d += WIDTH) {
            const vector x = *(const vector *)(rows + r * width + d) * factor;
            if (half)
                *(halves *)((bfloat *)to + at + d) = rounded(x);
            else
                *(vector *)(to + at + d) = x;
        }
    }
}

/* ---- attention ---- */

/* scores [rows, longest]: the products of a block's queries with the keys that their tile sees. */
static void score(const plan *p, const block *b, const float *queries, const float *panels, float *scores) {
    for (const stretch *s = b->stretches; s < b->stretches + 2; s++)
        for (int64_t key = s->low; key < s->high; key += PANEL)
            for (int64_t r = 0; r < b->rows; r += TILE) {
                const int64_t columns = least(PANEL, up(tile_end(p, b, s, r) - key, WIDTH));
                if (columns > 0)
                    multiply(p, columns, p->width_words, queries + r * p->width_words, p->width_words, 1,
                             panels + (s->panel + key) * p->width_words, PANEL,
                             scores + r * p->longest + s->column + key, p->longest, TILE, 0);
            }
}

/* scores -> their exponentials below the row's largest, 0 where a row does not see, as bfloat16 with `half`; over
   [rows], one over their sum; norms [T, heads], the log of the sum of all. */
static void soften(const plan *p, const block *b, int64_t head, float *scores, float *over, float *norms) {
    for (int64_t r = 0; r < b->rows; r++) {
        const int64_t query = b->start + r / p->group;
        vector highest = splat(-INFINITY), total = splat(0);
        for (const stretch *s = b->stretches; s < b->stretches + 2; s++) {
            float *row = scores + r * p->longest + s->column;
            const int64_t edge = up(tile_end(p, b, s, r), WIDTH);
            for (int64_t j = s->low; j < seen_from(p, b, s, query) && j < edge; j++) row[j] = -INFINITY;
            for (int64_t j = most(s->low, seen_to(s, query)); j < edge; j++) row[j] = -INFINITY;
            for (int64_t j = s->low; j < edge; j += WIDTH) highest = larger(*(const vector *)(row + j), highest);
        }
        const float scale = p->half ? p->scale : 1;
        float top = highest[0];
        for (int j = 1; j < WIDTH; j++) top = highest[j] > top ? highest[j] : top;
        top *= scale;
        for (const stretch *s = b->stretches; s < b->stretches + 2; s++) {
            float *row = scores + r * p->longest + s->column;
            const int64_t edge = up(tile_end(p, b, s, r), WIDTH);
            for (int64_t j = s->low; j < edge; j += WIDTH) {
                const vector x = exponential(*(const vector *)(row + j) * scale - top);
                if (p->half) /* no further than what has been read */
                    *(halves *)((bfloat *)(row - s->column) + s->column + j) = rounded(x);
                else
                    *(vector *)(row + j) = x;
                total += x;
            }
        }
        norms[place(p, b, head, r)] = top + logf(sum(total));
        over[r] = 1 / sum(total);
    }
}

/* What a product over keys multiplies with, from `key` of a stretch on: of float32 rows [T, key_heads, width], or of
   paired ones of this head, with `row` words from one to the next. */
static inline const float *over_keys(const plan *p, const stretch *s, int64_t key, int64_t head, const float *rows,
                                     const float *paired, int64_t width, int64_t *row) {
    *row = p->half ? width : p->key_heads * width;
    return p->half ? paired + (s->panel + key) / 2 * width : rows + ((s->token + key) * p->key_heads + head) * width;
}

/* sums [rows, values]: of the values, each as often as its key has it. */
static void collect(const plan *p, const block *b, int64_t head, const float *scores, const float *v,
                    const float *paired, float *sums) {
    int64_t step;
    memset(sums, 0, sizeof(float) * (size_t)(p->rows * p->values));
    for (const stretch *s = b->stretches; s < b->stretches + 2; s++)
        for (int64_t key = s->low; key < s->high; key += PANEL)
            for (int64_t r = 0; r < b->rows; r += TILE) {
                const int64_t keys = least(PANEL, tile_end(p, b, s, r) - key);
                const float *values = over_keys(p, s, key, head, v, paired, p->values, &step);
                if (keys > 0)
                    multiply(p, p->values, words(p, keys), scores + r * p->longest + ((s->column + key) >> p->half),
                             p->longest, 1, values, step, sums + r * p->values, p->values, TILE, 1);
            }
}

/* Whether bfloat16 is taken. */
int halves_taken(void) { return HALVES; }

/* out [T, heads, values] and norms [T, heads], log sums of exponentials, of q [T, heads, width],
   k [T, key_heads, width] and v [T, key_heads, values]; of the key heads [first, last). With `half` all but norms are
   bfloat16. Returns DONE, NO_MEMORY or NO_ROOT. */
int attend(const float *q, const float *k, const float *v, float *out, float *norms, int64_t half, int64_t heads,
           int64_t key_heads, int64_t width, int64_t values, const branch *branches, int64_t count, float scale,
           int64_t window, int64_t first, int64_t last) {
    plan p = {.heads = heads, .key_heads = key_heads, .width = width, .values = values, .half = (int)half,
              .branches = branches, .count = count, .window = window, .scale = scale};
    int failed = make_plan(&p);
    float *panels = NULL, *queries = NULL, *scores = NULL, *sums = NULL, *over = NULL, *paired = NULL;
    if (!failed) {
        panels = room(p.used * p.width_words), queries = room(p.rows * p.width_words), scores = room(p.rows * p.longest);
        sums = room(p.rows * values), over = room(p.rows), paired = room(half * p.used / 2 * values);
        failed = panels && queries && scores && sums && over && paired ? DONE : NO_MEMORY;
    }
    for (int64_t head = first; head < last && !failed; head++) {
        to_panels(&p, k + head * p.width_words, key_heads * p.width_words, p.width_words, panels);
        if (half) to_pairs(&p, v, head, values, paired);
        for (int64_t each = 0; each < count; each++)
            for (int64_t start = 0; start < branches[each].length; start += p.queries) {
                const block b = make_block(&p, each, start);
                take_rows(&p, &b, head, q, p.width_words, scale, queries);
                score(&p, &b, queries, panels, scores);
                soften(&p, &b, head, scores, over, norms);
                collect(&p, &b, head, scores, v, paired, sums);
                put_rows(&p, &b, head, sums, values, over, 0, out, (int)half);
            }
    }
    free(p.panels), free(panels), free(queries), free(scores), free(sums), free(over), free(paired);
    return failed;
}

/* ---- its gradient ---- */

typedef struct {
    float *key_panels, *value_panels; /* of all branches */
    float *queries, *slopes, *sums;   /* of a block: [rows, width], of out [rows, values], of q [rows, width] */
    float *norms, *deltas;            /* [rows]: log sums; slopes times out */
    float *chances, *changes;         /* [rows, PANEL]: attention, and the slope of its scores */
    /* With `half`, what is multiplied next: by key pairs the keys [used / 2, width] and the changes [rows, PANEL / 2];
       by row pairs all else, [rows / 2, ...]. */
    float *paired_keys, *changes_by_key;
    float *paired_queries, *paired_slopes, *paired_chances, *paired_changes;
} workplace;

/* chances and changes of a tile of rows, as bfloat16: both by pairs of rows, the changes by pairs of keys as well. */
static void pair_slopes(const block *b, int64_t columns, int64_t r, const workplace *w) {
    for (int64_t i = r; i < r + TILE && i < b->rows; i += 2)
        for (int64_t j = 0; j < columns; j += WIDTH) {
            halves rows[2][2] = {0}; /* of chances and changes: this row's and the next one's */
            for (int next = 0; next < 2 && i + next < b->rows; next++) {
                const int64_t at = (i + next) * PANEL + j;
                rows[0][next] = rounded(*(const vector *)(w->chances + at));
                rows[1][next] = rounded(*(const vector *)(w->changes + at));
                *(halves *)((bfloat *)w->changes_by_key + at) = rows[1][next];
            }
            float *paired[] = {w->paired_chances, w->paired_changes};
            for (int each = 0; each < 2; each++)
                *(naturals *)(paired[each] + i / 2 * PANEL + j) =
                    __builtin_convertvector(rows[each][0], naturals) |
                    __builtin_convertvector(rows[each][1], naturals) << 16;
        }
}

/* chances and changes of a tile of rows and the panel at `key`, 0 where a row does not see. */
static void slopes_of_scores(const plan *p, const block *b, const stretch *s, int64_t key, int64_t columns, int64_t r,
                             const workplace *w) {
    const int64_t panel = s->panel + key, width = p->width_words, values = p->values_words;
    const float scale = p->half ? p->scale : 1;
    float *chances = w->chances + r * PANEL, *changes = w->changes + r * PANEL;
    multiply(p, columns, width, w->queries + r * width, width, 1, w->key_panels + panel * width, PANEL, chances, PANEL,
             TILE, 0);
    multiply(p, columns, values, w->slopes + r * values, values, 1, w->value_panels + panel * values, PANEL, changes,
             PANEL, TILE, 0);
    for (int64_t i = r; i < r + TILE && i < b->rows; i++, chances += PANEL, changes += PANEL) {
        const int64_t query = b->start + i / p->group;
        for (int64_t j = 0; j < columns; j += WIDTH) {
            vector *chance = (vector *)(chances + j), *change = (vector *)(changes + j);
            *chance = exponential(*chance * scale - w->norms[i]);
            *change = *chance * (*change - w->deltas[i]);
        }
        for (int64_t j = 0; j < columns && key + j < seen_from(p, b, s, query); j++) chances[j] = changes[j] = 0;
        for (int64_t j = most(0, seen_to(s, query) - key); j < columns; j++) chances[j] = changes[j] = 0;
    }
    if (p->half) pair_slopes(b, columns, r, w);
}

/* One block: the rows of q are in `sums`, those of k and v are added to. */
static void descend(const plan *p, const block *b, int64_t head, const float *k, float *of_k, float *of_v,
                    const workplace *w) {
    const int64_t width = p->width, values = p->values, panel_words = PANEL >> p->half;
    const float *by_key = p->half ? w->changes_by_key : w->changes;
    const float *chances = p->half ? w->paired_chances : w->chances, *changes = p->half ? w->paired_changes : w->changes;
    const float *slopes = p->half ? w->paired_slopes : w->slopes, *queries = p->half ? w->paired_queries : w->queries;
    memset(w->sums, 0, sizeof(float) * (size_t)(p->rows * width));
    for (const stretch *s = b->stretches; s < b->stretches + 2; s++)
        for (int64_t key = s->low; key < s->high; key += PANEL) {
            const int64_t keys = least(PANEL, s->high - key), columns = up(keys, WIDTH);
            const int64_t token = (s->token + key) * p->key_heads + head;
            /* rows before see none of these keys */
            const int64_t above = s->own ? most(0, key - b->start) * p->group / TILE * TILE : 0;
            int64_t step;
            const float *right = over_keys(p, s, key, head, k, w->paired_keys, width, &step);
            for (int64_t r = above; r < b->rows; r += TILE) {
                slopes_of_scores(p, b, s, key, columns, r, w);
                multiply(p, width, words(p, keys), by_key + r * panel_words, panel_words, 1, right, step,
                         w->sums + r * width, width, TILE, 1);
            }
            const int64_t depth = words(p, b->rows - above), from = above >> p->half;
            for (int64_t j = 0; j < keys; j += TILE) {
                const int64_t at = token + j * p->key_heads;
                const int height = (int)least(TILE, keys - j);
                multiply(p, values, depth, chances + from * PANEL + j, 1, PANEL, slopes + from * values, values,
                         of_v + at * values, p->key_heads * values, height, 1);
                multiply(p, width, depth, changes + from * PANEL + j, 1, PANEL, queries + from * width, width,
                         of_k + at * width, p->key_heads * width, height, 1);
            }
        }
}

static inline float number(const plan *p, const float *from, int64_t at) {
    return p->half ? single(((const bfloat *)from)[at]) : from[at];
}

/* A block's rows of queries and slopes, their log sums, and the deltas: out times its slope. */
static void take_block(const plan *p, const block *b, int64_t head, const float *q, const float *out,
                       const float *norms, const float *slope, const workplace *w) {
    take_rows(p, b, head, q, p->width_words, p->scale, w->queries);
    take_rows(p, b, head, slope, p->values_words, 1, w->slopes);
    if (p->half) {
        pair_rows((const bfloat *)w->queries, p->width, b->rows, p->width, w->paired_queries);
        pair_rows((const bfloat *)w->slopes, p->values, b->rows, p->values, w->paired_slopes);
    }
    for (int64_t r = 0; r < b->rows; r++) {
        const int64_t at = place(p, b, head, r);
        w->norms[r] = norms[at], w->deltas[r] = 0;
        for (int64_t d = at * p->values; d < (at + 1) * p->values; d++)
            w->deltas[r] += number(p, slope, d) * number(p, out, d);
    }
}

/* Of slope [T, heads, values], the gradient of out: of_q is written, of_k and of_v are added to, all float32; with
   `half` what goes in is bfloat16, but norms, and of_k is still to be scaled. */
int attend_backward(const float *q, const float *k, const float *v, const float *out, const float *norms,
                    const float *slope, float *of_q, float *of_k, float *of_v, int64_t half, int64_t heads,
                    int64_t key_heads, int64_t width, int64_t values, const branch *branches, int64_t count,
                    float scale, int64_t window, int64_t first, int64_t last) {
    plan p = {.heads = heads, .key_heads = key_heads, .width = width, .values = values, .half = (int)half,
              .branches = branches, .count = count, .window = window, .scale = scale};
    int failed = make_plan(&p);
    workplace w = {0};
    float **rooms[] = {&w.key_panels,  &w.value_panels,   &w.queries,        &w.slopes,        &w.sums,
                       &w.norms,       &w.deltas,         &w.chances,        &w.changes,       &w.paired_keys,
                       &w.changes_by_key, &w.paired_queries, &w.paired_slopes, &w.paired_chances, &w.paired_changes};
    const int64_t width_words = p.width_words, values_words = p.values_words, pairs = half * (p.rows / 2);
    const int64_t sizes[] = {p.used * width_words, p.used * values_words, p.rows * width_words, p.rows * values_words,
                             p.rows * width,       p.rows,                p.rows,               p.rows * PANEL,
                             p.rows * PANEL,       half * p.used / 2 * width, pairs * PANEL,    pairs * width,
                             pairs * values,       pairs * PANEL,         pairs * PANEL};
    const int arrays = sizeof(sizes) / sizeof(*sizes);
    for (int i = 0; i < arrays && !failed; i++)
        if (!(*rooms[i] = room(sizes[i]))) failed = NO_MEMORY;
    for (int64_t head = first; head < last && !failed; head++) {
        to_panels(&p, k + head * width_words, key_heads * width_words, width_words, w.key_panels);
        to_panels(&p, v + head * values_words, key_heads * values_words, values_words, w.value_panels);
        if (half) to_pairs(&p, k, head, width, w.paired_keys);
        for (int64_t each = 0; each < count; each++)
            for (int64_t start = 0; start < branches[each].length; start += p.queries) {
                const block b = make_block(&p, each, start);
                take_block(&p, &b, head, q, out, norms, slope, &w);
                descend(&p, &b, head, k, of_k, of_v, &w);
                put_rows(&p, &b, head, w.sums, width, NULL, scale, of_q, 0);
            }
    }
    free(p.panels);
    for (int i = 0; i < arrays; i++) free(*rooms[i]);
    return failed;
}
