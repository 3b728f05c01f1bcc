#include "scan_image.h"

#include "translate/translate.h"
#include "x86/mode.h"

int plan_add_image(struct plan *plan, const struct image *image, struct err *err)
{
	struct scan_options options = translate_scan_options(plan_store(plan), 0);
	u32 mode = image->kernel ? MODE_LINUX_KERNEL : MODE_LINUX_USER;
	struct units *units = units_create(image, &options, err);
	const struct scan *scan;
	int result = 0;

	if (!units)
		return -1;
	units_add_entries(units);
	while (result == 0 && (scan = units_next(units))) {
		const u8 *bytes = image_at(image, scan->pc, scan->bytes);

		if (bytes)
			result = plan_add(plan, scan, mode, bytes, NULL, err);
	}
	units_free(units);
	return result;
}
