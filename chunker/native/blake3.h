/* Keyed BLAKE3 of many chunks at once, all lanes full whatever their lengths.
 *
 * The usual libraries hash one message at a time: their lanes are the 1 KiB leaves of *one* message, so that a chunk of 9 KiB
 * uses half of a vector unit of sixteen.  Here the leaves of all chunks of a buffer are laid into lanes together; leaves that
 * are cut short are sorted by length first, so that lanes of one round end together; and the tree nodes above them are paired
 * level by level, again across all chunks.
 *
 * Nothing here knows Python, allocates, or keeps state between calls.  The same bytes give the same ids everywhere: the
 * official test vectors and the `blake3` library are the oracle (tests/chunker/test_naming.py).
 * Source of the algorithm: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3", 2020.
 */
#ifndef STRANDLINE_BLAKE3_H
#define STRANDLINE_BLAKE3_H

#include <stddef.h>
#include <stdint.h>

enum {
    B3_BLOCK = 64,
    B3_LEAF = 1024,
    B3_CHUNK_START = 1,
    B3_CHUNK_END = 2,
    B3_PARENT = 4,
    B3_ROOT = 8,
    B3_KEYED = 16
};

enum { B3_MOST_LANES = 16, SL_ID = 16 };

/* One lane's work: a leaf (1 to 1024 bytes; 0 for the empty message), or the two chaining values below a parent.
 * *out* receives the eight words of the chaining value; it may be where the input lies. */
typedef struct {
    const uint8_t *data;
    uint64_t counter; /* the leaf's number in its chunk */
    uint32_t *out;
    uint16_t size;
    uint8_t flags; /* B3_ROOT where this is the whole tree */
} b3_job;

/* Hash up to as many jobs as there are lanes. */
typedef struct {
    const char *name;
    unsigned lanes;
    void (*leaves)(const uint32_t key[8], const b3_job *jobs, unsigned count); /* all of 1024 bytes */
    void (*ragged)(const uint32_t key[8], const b3_job *jobs, unsigned count); /* of any size up to 1024 */
    void (*parents)(const uint32_t key[8], const b3_job *jobs, unsigned count);
    int (*usable)(void);
} b3_kernel;

/* Every kernel that was compiled in, slowest first; ends with NULL.  There may be none. */
extern const b3_kernel *const b3_kernels[];

extern const uint32_t b3_iv[8];

/* How many bytes of scratch sl_name needs for chunks of at most *longest* bytes. */
size_t sl_name_scratch(size_t longest);

/* Write the ids (16 bytes each) of *count* chunks of *data*: chunk i ends at ends[i] and begins where the one before ended, the
 * first at 0.  The ends do not descend.  A chunk of nothing but zeros gets an id of zeros and is not hashed. */
void sl_name(const b3_kernel *kernel, const uint32_t key[8], const uint8_t *data, const uint64_t *ends, size_t count,
             uint8_t *ids, void *scratch);

/* Is there nothing but zeros? */
int sl_is_zero(const uint8_t *data, size_t size);

#endif
