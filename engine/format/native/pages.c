#include "pages.h"

#include <stdlib.h>

int fr_pages_add(fr_pages *pages, uint8_t *memory)
{
    if (pages->count == pages->room) {
        const size_t room = 2 * pages->room + 16;
        fr_slot *slots = realloc(pages->slots, room * sizeof *slots);

        if (slots == NULL)
            return 0;
        pages->slots = slots;
        pages->room = room;
    }
    pages->slots[pages->count++] = (fr_slot){memory, 0, 0, 0};
    pages->free++;
    return 1;
}

fr_slot *fr_pages_find(fr_pages *pages, uint64_t page)
{
    size_t i;

    if (pages->last < pages->count && pages->slots[pages->last].used && pages->slots[pages->last].page == page)
        return &pages->slots[pages->last];
    for (i = 0; i < pages->count; i++)
        if (pages->slots[i].used && pages->slots[i].page == page) {
            pages->last = i;
            return &pages->slots[i];
        }
    return NULL;
}

static int claim(fr_pages *pages, uint64_t page)
{
    size_t i;

    if (fr_pages_find(pages, page) != NULL)
        return 1;
    if (pages->free == 0)
        return 0;
    for (i = 0; pages->slots[i].used; i++)
        ;
    pages->slots[i].page = page;
    pages->slots[i].filled = 0;
    pages->slots[i].used = 2; /* just now */
    pages->free--;
    pages->last = i;
    return 1;
}

int fr_pages_claim(fr_pages *pages, const fr_piece *pieces, size_t count)
{
    size_t i;
    int enough = 1;

    for (i = 0; enough && i < count; i++) {
        uint64_t page = pieces[i].at / pages->size;
        const uint64_t stop = (pieces[i].at + pieces[i].size + pages->size - 1) / pages->size;

        for (; enough && page < stop; page++)
            enough = claim(pages, page);
    }
    for (i = 0; i < pages->count; i++)
        if (pages->slots[i].used == 2) {
            pages->slots[i].used = enough;
            pages->free += !enough;
        }
    return enough;
}

uint64_t fr_page_bytes(const fr_pages *pages, uint64_t page)
{
    const uint64_t rest = pages->stream - page * pages->size;

    return rest < pages->size ? rest : pages->size;
}

void fr_pages_free(fr_pages *pages, fr_slot *slot)
{
    slot->used = 0;
    pages->free++;
}
