#include "console/mark.h"

#include <string.h>
#include <time.h>

#include "console/raw_call.h"

int mark_init(struct mark *mark, const char *text, struct err *err)
{
	size_t length = strlen(text);
	u32 border = 0;

	if (!length || length > MARK_MAX)
		return err_set(err, "the text must have 1 to %d bytes", MARK_MAX);
	*mark = (struct mark){.length = (u32)length};
	memcpy(mark->text, text, length);
	for (u32 i = 1; i < length; i++) {
		while (border && mark->text[i] != mark->text[border])
			border = mark->fallback[border];
		if (mark->text[i] == mark->text[border])
			border++;
		mark->fallback[i + 1] = (u8)border;
	}
	return 0;
}

static u64 monotonic_ns(void)
{
	struct timespec now;

	raw_call(__NR_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

void mark_feed(struct mark *mark, u8 byte)
{
	if (!mark->length)
		return;
	while (mark->matched && mark->text[mark->matched] != byte)
		mark->matched = mark->fallback[mark->matched];
	if (mark->text[mark->matched] == byte)
		mark->matched++;
	if (mark->matched == mark->length) {
		mark->found_ns = monotonic_ns();
		mark->length = 0;
	}
}
