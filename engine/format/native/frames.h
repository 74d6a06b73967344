/* Restoring from packs: which bytes of which packs some rows of a recipe need, which frames lie there, and where in the stream what
 * they hold belongs.  Arithmetic only: nothing is read, opened or decompressed here.
 *
 * `../recipe.py` and `../pack.py` say what rows and frames look like; `../window.py` is the same in Python, and the place to
 * read what is meant.
 */
#ifndef STRANDLINE_FRAMES_H
#define STRANDLINE_FRAMES_H

#include <stddef.h>
#include <stdint.h>

enum { FR_PACK = 32, FR_ID = 16 };

/* Chunks that a window may have, unless one row alone has more, and chunks that a run can have: a pack's table has no room for more. */
enum { FR_MOST_CHUNKS = 1 << 18, FR_MOST_RUN = (256 << 20) / 20 };

/* How something went; `fr_words` has them in words. */
typedef enum {
    FR_OK,
    FR_NO_MEMORY,
    FR_BAD_ROW,
    FR_EMPTY_RUN,
    FR_BESIDE,
    FR_IMPOSSIBLE,
    FR_NO_CHUNKS,
    FR_OTHER_SIZE,
    FR_SHORT_FRAME,
    FR_BAD_HEAD,
    FR_BAD_CODEC,
    FR_BAD_SUM
} fr_status;

extern const char *const fr_words[];

typedef struct {
    uint32_t pack; /* which of the window's */
    uint32_t frame, skip, count, offset, length;
    uint64_t plain;
    uint64_t at;   /* where in the stream it begins */
    uint64_t slot; /* the number of its first chunk among the window's */
    uint32_t chunks_placed;
    uint64_t plain_placed;
    uint32_t row; /* its place among the window's runs */
} fr_run;

/* What is not fetched: zeros, or (count > 0) chunks that are there already. */
typedef struct {
    uint64_t at, size, slot;
    uint32_t count;
} fr_gap;

/* Bytes [start, end) of a pack: runs first to stop. */
typedef struct {
    uint32_t pack, first, stop;
    uint64_t start, end;
} fr_extent;

typedef struct {
    fr_run *runs;
    size_t run_count, run_room;
    fr_gap *gaps;
    size_t gap_count, gap_room;
    fr_extent *extents;
    size_t extent_count;
    const uint8_t **packs; /* into the rows */
    size_t pack_count, pack_room;
    uint64_t start, end; /* in the stream */
    uint64_t chunks;
    size_t left; /* runs of which something is still to be placed */
    /* the extent that is being cut into frames */
    const fr_extent *extent;
    uint64_t cut_at;
    uint32_t ordinal, next;
    uint32_t *open;
    size_t open_count, open_room;
} fr_window;

typedef struct {
    size_t page;       /* bytes of a page of what is being restored */
    size_t most_pages; /* that a window may touch, and rows that it may have, unless one row alone is more */
    size_t most_rows;
    uint64_t gap; /* bytes that are read rather than skipped */
    uint64_t near_start;
} fr_limits;

/* Take rows from place *at on, which is then the place of the first that was not taken.  *start* is where they begin in the stream.
 * The window points into *rows*.  A row: 1 and a run, 2 and a hole, as recipes have them; 3, u64 size, u32 count, ids: what is there. */
fr_status fr_window_take(fr_window *window, const uint8_t *rows, size_t size, size_t *at, uint64_t start, const fr_limits *limits);

void fr_window_clear(fr_window *window);

/* The row at place *at: its kind, and how many bytes of the stream it stands for; then *at is behind it. */
fr_status fr_next_row(const uint8_t *rows, size_t size, size_t *at, int *kind, uint64_t *plain);

/* A frame that some runs need: their numbers are needs[first_need] and following. */
typedef struct {
    uint32_t ordinal;
    size_t start, stop; /* in the data, without the four bytes of its size */
    size_t first_need, need_count;
} fr_frame;

typedef struct {
    fr_frame *frames;
    size_t count, room;
    uint32_t *needs;
    size_t need_count, need_room;
} fr_cut;

void fr_begin(fr_window *window, size_t extent);

/* Find frames in *data*, which begins with one, as far as it and *masks* (the first is for the frame at hand) reach. */
fr_status fr_find(fr_window *window, const uint8_t *data, size_t size, const uint32_t *masks, size_t mask_count, fr_cut *cut,
                  size_t *consumed);

/* Chunks first to first + count of a frame have the ids from number slot on ... */
typedef struct {
    uint64_t first, count, slot;
} fr_pick;

/* ... and size bytes from start of it belong at place *at* of the stream. */
typedef struct {
    uint64_t start, size, at;
} fr_piece;

typedef struct {
    uint32_t codec, plain, count;
} fr_head;

/* Read a frame's head, and find out where the runs that need it go on: as many picks and pieces as needs.  Each run's frames come in
 * order. */
fr_status fr_place(fr_window *window, const uint8_t *body, size_t size, const uint32_t *needs, size_t count, fr_head *head,
                   fr_pick *picks, fr_piece *pieces);

/* One whole zstd frame that says it has *plain* bytes, and nothing behind it? */
int fr_zstd_is_whole(const uint8_t *payload, size_t size, uint64_t plain);

#endif
