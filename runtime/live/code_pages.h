/*
 * The host's pages that the code cache lies in. Translated code is spread thinly over many of them, and is executed
 * once or twice in most places: with pages of 4 KiB the processor walks page tables for every other one.
 */
#ifndef AVANT_LIVE_CODE_PAGES_H
#define AVANT_LIVE_CODE_PAGES_H

#include "live/live.h"

#define CODE_PAGE 0x200000u /* bytes; both views of the code cache begin at a multiple */

/*
 * Code will be written to offsets [from, to) of the code cache: huge pages are made of what is there, and of some of
 * what follows up to `limit`, soon (ahead.h). Until then, and if the host's kernel cannot do it, all is slower, not
 * wrong.
 */
void code_pages_want(struct live *live, u64 from, u64 to, u64 limit);

#endif
