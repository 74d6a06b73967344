/* Pages of a stream that is being put together from pieces in any order: which of them are begun, and how full they are. */
#ifndef STRANDLINE_PAGES_H
#define STRANDLINE_PAGES_H

#include "frames.h"

typedef struct {
    uint8_t *memory;
    uint64_t page;
    uint64_t filled;
    int used;
} fr_slot;

typedef struct {
    size_t size;     /* of a page */
    uint64_t stream; /* bytes in all: the last page may be shorter */
    fr_slot *slots;
    size_t count, room, free, last;
} fr_pages;

/* Let *memory*, of a page's size, be one more slot; 0 if there is no room for it. */
int fr_pages_add(fr_pages *pages, uint8_t *memory);

/* The slot of a page that is begun; NULL if it is not. */
fr_slot *fr_pages_find(fr_pages *pages, uint64_t page);

/* Give every page that the pieces touch a slot; 0, and nothing has changed, if there are not enough. */
int fr_pages_claim(fr_pages *pages, const fr_piece *pieces, size_t count);

/* Bytes that the page has when it is full. */
uint64_t fr_page_bytes(const fr_pages *pages, uint64_t page);

void fr_pages_free(fr_pages *pages, fr_slot *slot);

#endif
