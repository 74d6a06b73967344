/* Random cases for the C of chunker/native, each against a model that is written here, as plainly as can be.
 *
 * A case is known by a seed and its number: what fails can be run again alone.  Buffers are allocated to the byte, so that the
 * address sanitizer sees whoever reads or writes beyond them.
 */
#ifndef STRANDLINE_FUZZ_H
#define STRANDLINE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* From 0 to below *n*. */
uint64_t dice(uint64_t n);
#define ONE_OF(list) ((list)[dice(sizeof(list) / sizeof *(list))])

void fill_random(uint8_t *data, size_t size);
/* Any of the characters that databases have: random, repeating, counting, boilerplate, two-valued, with holes, nothing but zeros. */
void fill_data(uint8_t *data, size_t size);

/* *size* bytes, not one more; they begin *shift* bytes (at most 64) behind an address that malloc gives. */
uint8_t *exactly(size_t size, size_t shift);
void give_back(uint8_t *data, size_t shift);

/* Say which case it was, and stop. */
#define EXPECT(what) ((what) ? (void)0 : failed(#what, __FILE__, __LINE__))
void failed(const char *what, const char *file, int line);

void fuzz_scan(void);
void fuzz_naming(void);
void fuzz_idset(void);
void fuzz_idruns(void);

#endif
