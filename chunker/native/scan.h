/* Where RKC-1 cuts, fast: the contract between the rule (../reference.py), the kernels and the door.
 *
 * Nothing here knows Python, allocates, or keeps state between calls: whatever is remembered lies in
 * the caller's hands.  The same bytes give the same cuts on every machine and with every kernel;
 * tests/chunker/ holds each of them to reference.py.
 *
 * In short (reference.py says it in full): offset e of a chunk may end it when the top *bits* bits of
 *
 *     H(e) = sum over k = 0..255 of sbox[x[e-1-k]] * 109^k   mod 2^16
 *
 * have the value 1 ("e is a candidate") and SipHash-2-4 of the same 256 bytes is at most *accept*.
 */
#ifndef STRANDLINE_SCAN_H
#define STRANDLINE_SCAN_H

#include <stddef.h>
#include <stdint.h>

enum { SL_WINDOW = 256, SL_MULTIPLIER = 109, SL_HASH_BITS = 16 };

/* Powers of the multiplier, mod 2^16: kernels double the number of bytes that a sum covers, step by step. */
#define SL_SQUARE(x) ((unsigned)(x) * (unsigned)(x) & 0xffffu)
enum {
    SL_POW1 = SL_MULTIPLIER,
    SL_POW2 = SL_SQUARE(SL_POW1),
    SL_POW4 = SL_SQUARE(SL_POW2),
    SL_POW8 = SL_SQUARE(SL_POW4),
    SL_POW16 = SL_SQUARE(SL_POW8),
    SL_POW32 = SL_SQUARE(SL_POW16),
    SL_POW64 = SL_SQUARE(SL_POW32),
    SL_POW128 = SL_SQUARE(SL_POW64),
    SL_POW256 = SL_SQUARE(SL_POW128)
};

/* A rule as the door receives it, little-endian, nothing between the fields:
 *
 *     offset  size  field
 *     0        256  sbox      sbox[b] = sbox[b & 0x0f] ^ sbox[b & 0xf0] ^ sbox[0] for every b
 *     256        8  k0        SipHash key
 *     264        8  k1
 *     272        8  accept
 *     280        8  min       the shortest chunk; at least SL_WINDOW, so that a window never leaves its chunk
 *     288        8  max       the longest; more than min
 *     296        4  bits      1 to 13
 */
enum { SL_RULE_SIZE = 300 };

typedef struct {
    uint64_t k0, k1, accept, min, max;
    unsigned bits;
    uint8_t sbox[256];
    uint8_t low[16], high[16]; /* sbox[b] = low[b & 15] ^ high[b >> 4]: for the shuffle instructions of vector units */
} sl_rule;

/* Read a rule; 0, or -1 if it is not one. */
int sl_rule_load(sl_rule *rule, const uint8_t packed[SL_RULE_SIZE]);

/* Windows that were refused during one call of sl_cut; they point into its data.  Rows that repeat bring
 * the same window up again and again, and comparing it costs a tenth of hashing it.  Windows that are
 * equal have equal H, so its lowest bits choose the slot. */
enum { SL_MEMO = 8 };

typedef struct {
    const uint8_t *refused[SL_MEMO];
} sl_memo;

/* Is the candidate whose window begins at *window*, with hash *h*, a cut point? */
int sl_confirm(const sl_rule *rule, sl_memo *memo, const uint8_t *window, unsigned h);

/* A kernel: return the smallest cut point e with from <= e < to, or 0 if there is none.
 * from >= SL_WINDOW; the bytes data[from - SL_WINDOW .. to - 1) are there and nothing else is read. */
typedef size_t (*sl_scan)(const sl_rule *rule, sl_memo *memo, const uint8_t *data, size_t from, size_t to);

typedef struct {
    const char *name;
    sl_scan scan;
    int (*usable)(void); /* NULL: on every machine */
} sl_kernel;

/* Every kernel that was compiled in, slowest first; ends with NULL.  A vector unit has a file of its own (scan_avx2.c).
 * NEON would be the next: rule->low and rule->high in two TBL, the sums in MLA on eight 16-bit lanes, EXT for the shifts. */
extern const sl_kernel *const sl_kernels[];

/* Cut data[0..size), which begins where a chunk begins, and write the end of each chunk to *ends*, which has
 * room for size / min + 1 of them.  Return how many there are.
 *
 * Unless *final*, the last bytes may belong to a chunk that is not decided yet: they must be presented
 * again, at the start of the next call's data, with more behind them.  *next is the smallest offset of
 * that first chunk that nobody has examined: 0 in a stream's first call, afterwards what the call before
 * left there.  So no offset is examined twice, however small the pieces are. */
size_t sl_cut(const sl_rule *rule, sl_scan scan, const uint8_t *data, size_t size, int final, size_t *next,
              uint64_t *ends);

/* The same for a block that was cut before its turn, as if a chunk began with it: *guess* has the ends that sl_cut found there (not
 * final, *next 0).  *data* is what the blocks before left over, *rest* bytes, with the block behind it; it begins where a chunk begins.
 *
 * From the first true end on that was guessed, all others are true as well, since they depend on nothing else: so blocks of one
 * stream are cut side by side, and only the first few chunks of each are looked for again. */
size_t sl_join(const sl_rule *rule, sl_scan scan, const uint8_t *data, size_t size, size_t rest, const uint64_t *guess,
               size_t guesses, int final, uint64_t *ends);

#endif
