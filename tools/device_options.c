#include "device_options.h"

#include "net/options.h"
#include "util/err.h"
#include "vm.h"

#include <string.h>

#define SERIAL_MAX 20 /* bytes (virtio 1.2, 5.2.6.1) */

/* Cuts the text at its first comma; two in a row are one of the text. Returns what follows, or NULL. */
static char *cut(char *text)
{
	char *to = text;

	for (; *text; *to++ = *text++) {
		if (*text != ',')
			continue;
		if (*++text != ',') {
			*to = '\0';
			return text;
		}
	}
	*to = '\0';
	return NULL;
}

static int parse_flag(bool *flag, const char *key, const char *value, struct err *err)
{
	if (value)
		return err_set(err, "'%s' takes no value", key);
	*flag = true;
	return 0;
}

static int parse_serial(struct vm_disk *disk, const char *value, struct err *err)
{
	if (!value || !*value || strlen(value) > SERIAL_MAX)
		return err_set(err, "a serial number has 1 to %d bytes", SERIAL_MAX);
	disk->serial = value;
	return 0;
}

static int parse_format(const char *value, struct err *err)
{
	if (!value || strcmp(value, "raw") != 0)
		return err_set(err, "format '%s' is not known: raw is the only one", value ? value : "");
	return 0;
}

static int parse_disk_key(struct vm_disk *disk, char *key, struct err *err)
{
	char *value = strchr(key, '=');

	if (value)
		*value++ = '\0';
	if (!strcmp(key, "readonly"))
		return parse_flag(&disk->config.readonly, key, value, err);
	if (!strcmp(key, "snapshot"))
		return parse_flag(&disk->config.snapshot, key, value, err);
	if (!strcmp(key, "serial"))
		return parse_serial(disk, value, err);
	if (!strcmp(key, "format"))
		return parse_format(value, err);
	return err_set(err, "'%s' is none of: readonly, snapshot, serial, format", key);
}

int option_disk(void *field, const char *text, struct err *err)
{
	struct vm_config *config = field;
	struct vm_disk disk = {.config.path = text};
	char *next;

	if (config->disk_count == VM_DISKS_MAX)
		return err_set(err, "at most %d disks can be used", VM_DISKS_MAX);
	for (char *key = cut((char *)(uintptr_t)text); key; key = next) {
		next = cut(key);
		if (parse_disk_key(&disk, key, err) < 0)
			return -1;
	}
	if (!*text)
		return err_set(err, "a file name is needed");
	if (disk.config.readonly && disk.config.snapshot)
		return err_set(err, "'readonly' and 'snapshot' exclude each other");
	config->disks[config->disk_count++] = disk;
	return 0;
}

int option_image(void *field, const char *text, struct err *err)
{
	struct vm_config *config = field;
	struct vm_disk disk;

	if (option_disk(config, text, err) < 0)
		return -1;
	disk = config->disks[config->disk_count - 1];
	memmove(config->disks + 1, config->disks, (config->disk_count - 1) * sizeof(disk));
	config->disks[0] = disk;
	return 0;
}

static int parse_tag(const struct vm_config *config, struct vm_share *share, const char *value, struct err *err)
{
	if (!value || !*value || strlen(value) > VM_SHARE_TAG_MAX)
		return err_set(err, "a tag has 1 to %d bytes", VM_SHARE_TAG_MAX);
	for (unsigned i = 0; i < config->share_count; i++)
		if (!strcmp(config->shares[i].tag, value))
			return err_set(err, "tag '%s' is used twice", value);
	share->tag = value;
	return 0;
}

static int parse_share_key(const struct vm_config *config, struct vm_share *share, char *key, struct err *err)
{
	char *value = strchr(key, '=');

	if (value)
		*value++ = '\0';
	if (!strcmp(key, "readonly"))
		return parse_flag(&share->config.readonly, key, value, err);
	if (!strcmp(key, "tag"))
		return parse_tag(config, share, value, err);
	return err_set(err, "'%s' is none of: tag, readonly", key);
}

int option_share(void *field, const char *text, struct err *err)
{
	struct vm_config *config = field;
	struct vm_share share = {.config.path = text};
	char *next;

	if (config->share_count == VM_SHARES_MAX)
		return err_set(err, "at most %d directories can be shared", VM_SHARES_MAX);
	for (char *key = cut((char *)(uintptr_t)text); key; key = next) {
		next = cut(key);
		if (parse_share_key(config, &share, key, err) < 0)
			return -1;
	}
	if (!*text)
		return err_set(err, "a directory is needed");
	if (!share.tag)
		return err_set(err, "a tag is needed, by which the guest mounts the directory: DIR,tag=TAG");
	config->shares[config->share_count++] = share;
	return 0;
}

int option_net(void *field, const char *text, struct err *err)
{
	return net_config_parse(field, text, err);
}
