/* Which bytes of a module's code belong to holes: a byte for each, so that patching may take and give them cheaply. */
#include <stdlib.h>

#include "internal.h"

#define FIRST      0x80u /* a hole's first byte: with its kind and size; */
#define SIZE(mark) ((mark)&0xfu)
#define KIND(mark) ((mark) >> 4 & 7u)
#define REST       0x01u /* any other of its bytes */

static struct hole_group *group_of(struct hole_map *map, u64 address, u64 size)
{
	for (u32 i = 0; map && i < map->group_count; i++)
		if (address >= map->group[i].address &&
		    within(address - map->group[i].address, size, map->group[i].size))
			return &map->group[i];
	return NULL;
}

int holes_add_group(struct hole_map *map, u64 address, u64 size)
{
	struct hole_group *group = &map->group[map->group_count];

	if (map->group_count == HOLE_GROUPS)
		return -1;
	group->mark = calloc(1, size + 1);
	if (!group->mark)
		return -1;
	group->address = address;
	group->size = size;
	map->group_count++;
	return 0;
}

void holes_release(struct hole_map *map)
{
	for (u32 i = 0; i < map->group_count; i++)
		free(map->group[i].mark);
	*map = (struct hole_map){0};
}

bool holes_same_group(struct hole_map *map, u64 a, u64 b)
{
	const struct hole_group *group = group_of(map, a, 1);

	return group && group == group_of(map, b, 1);
}

void holes_clear(struct hole_map *map, u64 address, u64 size)
{
	struct hole_group *group = group_of(map, address, size);
	u64 from, to;

	if (!group || !size)
		return;
	from = address - group->address;
	to = from + size;
	/* of a hole that is cut, nothing is left */
	while (from && group->mark[from] == REST)
		from--;
	while (to < group->size && group->mark[to] == REST)
		to++;
	memset(group->mark + from, 0, to - from);
}

void holes_set(struct hole_map *map, u64 address, u8 size, enum hole_kind kind)
{
	struct hole_group *group = group_of(map, address, size);

	if (!group)
		return;
	holes_clear(map, address, size);
	memset(group->mark + (address - group->address), REST, size);
	group->mark[address - group->address] = (u8)(FIRST | (unsigned)kind << 4 | size);
}

void holes_copy(struct hole_map *map, u64 from, u64 to, u64 size)
{
	const struct hole_group *group = group_of(map, from, size);

	holes_clear(map, to, size);
	for (u64 i = 0; group && i < size; i++) {
		u8 mark = group->mark[from - group->address + i];

		if (mark & FIRST && i + SIZE(mark) <= size)
			holes_set(map, to + i, SIZE(mark), (enum hole_kind)KIND(mark));
	}
}

int holes_list(const struct hole_map *map, struct module *module)
{
	u64 count = 0;

	for (u32 g = 0; g < map->group_count; g++)
		for (u64 i = 0; i < map->group[g].size; i++)
			count += map->group[g].mark[i] >> 7;
	module->hole = count < UINT32_MAX ? malloc((count + 1) * sizeof(*module->hole)) : NULL;
	if (!module->hole)
		return -1;
	for (u32 g = 0; g < map->group_count; g++)
		for (u64 i = 0; i < map->group[g].size; i++) {
			u8 mark = map->group[g].mark[i];

			if (mark & FIRST)
				module->hole[module->hole_count++] =
					(struct module_hole){map->group[g].address + i, SIZE(mark), KIND(mark)};
		}
	return 0;
}
