#include "net/checksum.h"

#include <string.h>

/* 32 bytes a round, in halves of 32 bits: 2^31 rounds fit before a sum of 64 bits overflows. */
u64 checksum_add(u64 sum, const void *data, size_t size)
{
	const u8 *at = data;
	u64 sums[4] = {0}, words[4];

	for (; size >= sizeof(words); size -= sizeof(words), at += sizeof(words)) {
		memcpy(words, at, sizeof(words));
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			sums[i] += (words[i] & 0xffffffff) + (words[i] >> 32);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(sums); i++)
		sum += sums[i];
	for (; size >= 2; size -= 2, at += 2) {
		u16 word;

		memcpy(&word, at, sizeof(word));
		sum += word;
	}
	if (size)
		sum += *at; /* little-endian: the byte that is missing is the upper one */
	return sum;
}

u16 checksum_fold(u64 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}

u16 checksum_finish(u64 sum)
{
	u16 folded = (u16)~checksum_fold(sum);

	return folded ? folded : 0xffff;
}

u16 checksum_update(u16 checksum, u16 from, u16 to)
{
	return (u16)~checksum_fold((u64)(u16)~checksum + (u16)~from + to);
}
