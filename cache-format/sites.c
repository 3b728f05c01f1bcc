/* The seven bytes of code where a unit jumps, or calls, by a link: through the link's cell, or straight (FORMAT.md). */
#include "internal.h"

#include <string.h>

/* Both forms end with four bytes: the cell's address, or the distance. */
#define OPERAND (TCACHE_LINK_SITE - 4)

#define CALL_BY_CELL  0x14
#define JUMP_BY_CELL  0x24
#define CALL_STRAIGHT 0xe8
#define JUMP_STRAIGHT 0xe9

static bool calls(const uint8_t *site)
{
	return site[0] == 0xff ? site[1] == CALL_BY_CELL : site[2] == CALL_STRAIGHT;
}

static bool ends_with(const uint8_t *site, uint32_t operand)
{
	return !memcmp(site + OPERAND, &operand, sizeof(operand));
}

void tcache_site_set_cell(uint8_t *site, uint32_t cell)
{
	memcpy(site, (const uint8_t[]){0xff, calls(site) ? CALL_BY_CELL : JUMP_BY_CELL, 0x25}, OPERAND);
	memcpy(site + OPERAND, &cell, sizeof(cell));
}

/* No operation before it: a call returns to the same place as one through the cell. */
void tcache_site_set_direct(uint8_t *site, uint32_t distance)
{
	memcpy(site, (const uint8_t[]){0x66, 0x90, calls(site) ? CALL_STRAIGHT : JUMP_STRAIGHT}, OPERAND);
	memcpy(site + OPERAND, &distance, sizeof(distance));
}

bool tcache_site_is_cell(const uint8_t *site, uint32_t cell)
{
	return site[0] == 0xff && (site[1] == CALL_BY_CELL || site[1] == JUMP_BY_CELL) && site[2] == 0x25 &&
	       ends_with(site, cell);
}

bool tcache_site_is_direct(const uint8_t *site, uint32_t distance)
{
	return site[0] == 0x66 && site[1] == 0x90 && (site[2] == CALL_STRAIGHT || site[2] == JUMP_STRAIGHT) &&
	       ends_with(site, distance);
}
