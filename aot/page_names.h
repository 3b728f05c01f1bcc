/* Whose pages they are that recordings have seen running: by a page's contents, a program's number and the place in it.
 */
#ifndef AVANT_AOT_PAGE_NAMES_H
#define AVANT_AOT_PAGE_NAMES_H

#include "util/types.h"

struct page_name {
	u64 hash[2]; /* of the page */
	u64 offset;  /* in the file */
	u32 program;
};

struct page_names {
	struct page_name *page;
	u64 count, room;
};

/* -1: out of memory. */
int page_names_add(struct page_names *names, const struct page_name *page);
/* When all have been added. */
void page_names_sort(struct page_names *names);
/* The first program that has the page; NULL: none has. */
const struct page_name *page_names_find(const struct page_names *names, const u64 hash[2]);
void page_names_release(struct page_names *names);

#endif
