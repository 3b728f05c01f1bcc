#include "image_tool.h"

int image_tool_partition(void *field, const char *text, struct err *err)
{
	u64 value;

	if (option_count(&value, text, err) < 0 || !value || value > UINT32_MAX)
		return err_set(err, "'%s' is not the number of a partition", text);
	*(u64 *)field = value;
	return 0;
}

int image_tool_volume(struct image *image, u64 partition, u32 *volume, struct err *err)
{
	const struct image_info *info;

	*volume = IMAGE_TREE;
	if (!partition)
		return 0;
	info = image_info(image, err);
	if (!info)
		return -1;
	for (u32 i = 0; i < info->volume_count; i++) {
		if (info->volume[i].number == partition) {
			*volume = i;
			return 0;
		}
	}
	return err_set(err, "there is no partition %llu", (unsigned long long)partition);
}

void image_tool_print(FILE *to, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		/* bytes from 0x80 on are letters in UTF-8, or cannot be read anyway; 0x9b alone is obeyed by few
		 * terminals, and they are not in UTF-8 mode */
		if (c < 0x20 || c == 0x7f || c == '\\')
			fprintf(to, "\\%03o", c);
		else
			putc(c, to);
	}
}
