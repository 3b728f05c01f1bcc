/* Disks, in front of one that answers when it is told to. */
#include "test_virtio_machine.h"

#include "disk/disk.h"

#define F_RO           BIT(5)
#define F_FLUSH        BIT(9)
#define F_DISCARD      BIT(13)
#define F_WRITE_ZEROES BIT(14)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };
enum { OK, IOERR, UNSUPPORTED, UNTOUCHED = 0xee };

#define DISK_SIZE (64ULL * DISK_SECTOR)

struct disk {
	u8 data[DISK_SIZE];
	struct disk_request *waiting;
	bool readonly, at_once, closed;
	int error;
	unsigned depth, flushes, discards, zeroes, drains;
	u64 last_offset, last_length;
	bool last_unmap;
};

static struct disk disk;

/* --- the disk ---------------------------------------------------------------------------------------------------- */

struct disk *disk_open(const struct disk_config *config, struct poller *poller, struct err *err)
{
	(void)poller;
	if (!strcmp(config->path, "none")) {
		err_set(err, "there is no disk '%s'", config->path);
		return NULL;
	}
	disk.readonly = config->readonly;
	return &disk;
}

void disk_close(struct disk *closed)
{
	closed->closed = true;
}

static void transfer(const struct disk_request *request)
{
	u64 at = request->offset;

	for (unsigned i = 0; i < request->iov_count; i++) {
		const struct iovec *iov = &request->iov[i];

		assert_true(at + iov->iov_len <= request->offset + request->length);
		if (request->op == DISK_READ)
			memcpy(iov->iov_base, disk.data + at, iov->iov_len);
		else
			memcpy(disk.data + at, iov->iov_base, iov->iov_len);
		at += iov->iov_len;
	}
	assert_int_equal(at, request->offset + request->length);
}

static void finish(struct disk_request *request)
{
	assert_true(request->offset + request->length <= DISK_SIZE);
	assert_int_equal(request->offset % DISK_SECTOR, 0);
	assert_int_equal(request->length % DISK_SECTOR, 0);
	disk.last_offset = request->offset;
	disk.last_length = request->length;
	disk.last_unmap = request->unmap;
	disk.flushes += request->op == DISK_FLUSH;
	disk.discards += request->op == DISK_DISCARD;
	disk.zeroes += request->op == DISK_WRITE_ZEROES;
	if (request->op == DISK_READ || request->op == DISK_WRITE)
		transfer(request);
	request->done(request, disk.error);
}

void disk_submit(struct disk *to, struct disk_request *request)
{
	assert_ptr_equal(to, &disk);
	if (disk.at_once) {
		finish(request);
		return;
	}
	request->next = disk.waiting;
	disk.waiting = request;
}

/* The one submitted last is done. */
static void answer(void)
{
	struct disk_request *request = disk.waiting;

	assert_non_null(request);
	disk.waiting = request->next;
	finish(request);
}

void disk_drain(struct disk *drained)
{
	drained->drains++;
	while (disk.waiting)
		answer();
}

void disk_begin_batch(struct disk *began)
{
	began->depth++;
}

void disk_end_batch(struct disk *ended)
{
	ended->depth--;
}

u64 disk_size(const struct disk *asked)
{
	return sizeof(asked->data);
}

bool disk_readonly(const struct disk *asked)
{
	return asked->readonly;
}

bool disk_can_discard(const struct disk *asked)
{
	(void)asked;
	return true;
}

/* --- the machine ------------------------------------------------------------------------------------------------- */

static void build(bool readonly, u64 features)
{
	const struct vm_disk config = {.config.path = "disk", .config.readonly = readonly, .serial = "number 1"};

	machine_build();
	vm->clock.source = CLOCK_SOURCE_HOST; /* else it is drained in each kick */
	memset(&disk, 0, sizeof(disk));
	for (unsigned i = 0; i < DISK_SIZE; i++)
		disk.data[i] = (u8)(i / DISK_SECTOR + i);
	assert_int_equal(virtio_blk_create(vm, &config, NULL), 0);
	device = vm->virtio;
	become_master();
	start_driver(features | VIRTIO_F_INDIRECT_DESC);
}

static int setup(void **state)
{
	(void)state;
	build(false, F_FLUSH | F_DISCARD | F_WRITE_ZEROES);
	return 0;
}

static int setup_plain(void **state)
{
	(void)state;
	build(false, 0);
	return 0;
}

static int setup_readonly(void **state)
{
	(void)state;
	build(true, F_FLUSH | F_RO);
	return 0;
}

static int teardown(void **state)
{
	virtio_teardown(state);
	assert_true(disk.closed);
	assert_int_equal(disk.depth, 0);
	return 0;
}

#define HEADER      DATA
#define STATUS_BYTE (DATA + 0x100)
#define PAYLOAD     (DATA + 0x1000)

static void write_header(u64 at, u32 type, u64 sector)
{
	const u32 words[2] = {type, 0};

	memcpy(guest(at), words, 8);
	memcpy(guest(at + 8), &sector, 8);
}

static u8 *status_byte(void)
{
	return guest(STATUS_BYTE);
}

static void kick_queue(void)
{
	set(NOTIFY, 2, 0);
}

/* A request of three pieces (two without payload), from descriptor 0 on; its status is looked at when it is done. */
static void submit(u32 type, u64 sector, u32 length)
{
	const bool in = type == IN || type == GET_ID;

	write_header(HEADER, type, sector);
	*status_byte() = UNTOUCHED;
	descriptor(0, HEADER, 16, DESC_NEXT, length ? 1 : 2);
	descriptor(1, PAYLOAD, length, DESC_NEXT | (in ? DESC_WRITE : 0), 2);
	descriptor(2, STATUS_BYTE, 1, DESC_WRITE, 0);
	offer(0);
	kick_queue();
}

static u8 run(u32 type, u64 sector, u32 length)
{
	const u16 before = used_index();

	submit(type, sector, length);
	while (disk.waiting)
		answer();
	assert_false(is_broken());
	assert_int_equal(used_index(), (u16)(before + 1));
	assert_int_equal(used_entry(before)[0], 0);
	return *status_byte();
}

/* --- reading and writing ----------------------------------------------------------------------------------------- */

static void config_describes_the_disk(void **state)
{
	(void)state;
	assert_int_equal(get(CONFIG, 8), 64);
	assert_int_equal(get(CONFIG + 12, 4), VIRTIO_CHAIN_MAX - 2);
	assert_int_equal(get(CONFIG + 20, 4), 512);
	assert_int_equal(get(CONFIG + 24, 1), 3);
	assert_int_equal(get(CONFIG + 26, 2), 8);
	assert_int_equal(get(CONFIG + 34, 2), 1);
	assert_true(get(CONFIG + 36, 4) > 0);
	assert_int_equal(get(CONFIG + 40, 4), 32);
	assert_int_equal(get(CONFIG + 56, 1), 1);
	assert_int_equal(device->offered & F_RO, 0);
}

static void sectors_are_read(void **state)
{
	(void)state;
	assert_int_equal(run(IN, 3, 1024), OK);
	assert_memory_equal(guest(PAYLOAD), disk.data + 3 * 512, 1024);
	assert_int_equal(used_entry(0)[1], 1025);
	assert_int_equal(run(IN, 63, 512), OK);
	assert_memory_equal(guest(PAYLOAD), disk.data + 63 * 512, 512);
	assert_int_equal(run(IN, 64, 0), OK);
}

static void sectors_are_written(void **state)
{
	(void)state;
	memset(guest(PAYLOAD), 0x77, 1536);
	assert_int_equal(run(OUT, 61, 1536), OK);
	assert_int_equal(used_entry(0)[1], 1);
	assert_memory_equal(disk.data + 61 * 512, guest(PAYLOAD), 1536);
	assert_int_equal(disk.data[61 * 512 - 1], (u8)(60 + 61 * 512 - 1));
	assert_int_equal(disk.flushes, 0);
}

static void what_is_outside_is_refused(void **state)
{
	static const u64 sectors[] = {64, 65, UINT64_MAX, UINT64_MAX / 512, UINT64_MAX / 512 + 1, BIT(55), BIT(63)};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(sectors); i++) {
		memset(guest(PAYLOAD), 0x55, 512);
		assert_int_equal(run(IN, sectors[i], 512), IOERR);
		assert_int_equal(*(u8 *)guest(PAYLOAD), 0); /* nothing stale is taken for data */
		assert_int_equal(run(OUT, sectors[i], 512), IOERR);
	}
	assert_int_equal(run(IN, 63, 1024), IOERR);
	assert_int_equal(run(IN, 0, 65 * 512), IOERR);
	assert_int_equal(run(IN, 0, 511), IOERR);
	assert_int_equal(run(OUT, 0, 513), IOERR);
	assert_int_equal(disk.last_length, 0);
}

static void requests_may_be_cut_anywhere(void **state)
{
	(void)state;
	/* in one table: header in three pieces, the last with data; status behind data */
	write_header(DATA, IN, 5);
	descriptor(0, TABLE, 5 * 16, DESC_INDIRECT, 0);
	descriptor_at(TABLE, 0, DATA, 7, DESC_NEXT, 1);
	descriptor_at(TABLE, 1, DATA + 7, 9, DESC_NEXT, 2);
	descriptor_at(TABLE, 2, PAYLOAD, 100, DESC_NEXT | DESC_WRITE, 3);
	descriptor_at(TABLE, 3, PAYLOAD + 100, 413, DESC_WRITE, 0);
	((u8 *)guest(PAYLOAD))[512] = UNTOUCHED;
	offer(0);
	kick_queue();
	answer();
	assert_memory_equal(guest(PAYLOAD), disk.data + 5 * 512, 512);
	assert_int_equal(((u8 *)guest(PAYLOAD))[512], OK);
	assert_int_equal(used_entry(0)[1], 513);

	write_header(PAYLOAD - 16, OUT, 7);
	memset(guest(PAYLOAD), 0x99, 512);
	descriptor_at(TABLE, 0, PAYLOAD - 16, 10, DESC_NEXT, 1);
	descriptor_at(TABLE, 1, PAYLOAD - 6, 106, DESC_NEXT, 2);
	descriptor_at(TABLE, 2, PAYLOAD + 100, 412, DESC_NEXT, 3);
	descriptor_at(TABLE, 3, STATUS_BYTE, 1, DESC_WRITE, 0);
	offer(0);
	kick_queue();
	answer();
	assert_int_equal(*status_byte(), OK);
	assert_memory_equal(disk.data + 7 * 512, guest(PAYLOAD), 512);
}

static void requests_end_in_any_order(void **state)
{
	(void)state;
	for (u16 i = 0; i < 2; i++) {
		write_header(DATA + 16 * i, IN, 10 + i);
		descriptor(3 * i, DATA + 16 * i, 16, DESC_NEXT, (u16)(3 * i + 1));
		descriptor(3 * i + 1u, PAYLOAD + 512 * i, 512, DESC_NEXT | DESC_WRITE, (u16)(3 * i + 2));
		descriptor(3 * i + 2u, STATUS_BYTE + i, 1, DESC_WRITE, 0);
		offer((u16)(3 * i));
	}
	kick_queue();
	assert_int_equal(used_index(), 0);
	answer();
	assert_int_equal(used_index(), 1);
	assert_int_equal(used_entry(0)[0], 3);
	assert_int_equal(get(ISR, 1), ISR_QUEUE);
	answer();
	assert_int_equal(used_entry(1)[0], 0);
	assert_int_equal(get(ISR, 1), ISR_QUEUE);
	assert_memory_equal(guest(PAYLOAD), disk.data + 10 * 512, 1024);
}

static void what_is_at_hand_is_done_in_the_kick(void **state)
{
	(void)state;
	disk.at_once = true;
	submit(IN, 1, 512);
	assert_int_equal(*status_byte(), OK);
	assert_int_equal(used_index(), 1);
	assert_int_equal(vm->stats.virtio_interrupts, 1);
}

static void host_error_is_an_io_error(void **state)
{
	(void)state;
	disk.error = 5;
	assert_int_equal(run(OUT, 1, 512), IOERR);
	memset(guest(PAYLOAD), 1, 512);
	assert_int_equal(run(IN, 1, 512), IOERR);
	assert_int_equal(*(u8 *)guest(PAYLOAD), 0);
	assert_int_equal(run(FLUSH, 0, 0), IOERR);
	disk.error = 0;
	assert_int_equal(run(IN, 1, 512), OK);
}

/* --- the other requests ------------------------------------------------------------------------------------------ */

static void flush_reaches_the_disk(void **state)
{
	(void)state;
	assert_int_equal(run(FLUSH, 0, 0), OK);
	assert_int_equal(disk.flushes, 1);
}

/* A driver that knows no flush takes a write for safe when it is done (5.2.6.2). */
static void writes_are_flushed_without_the_feature(void **state)
{
	(void)state;
	submit(OUT, 1, 512);
	answer();
	assert_int_equal(used_index(), 0);
	answer();
	assert_int_equal(disk.flushes, 1);
	assert_int_equal(*status_byte(), OK);
	disk.error = 5;
	assert_int_equal(run(OUT, 1, 512), IOERR);
	assert_int_equal(disk.flushes, 1);
}

static void serial_number_is_told(void **state)
{
	(void)state;
	memset(guest(PAYLOAD), 0xff, 32);
	assert_int_equal(run(GET_ID, 0, 20), OK);
	assert_memory_equal(guest(PAYLOAD), "number 1\0\0\0\0\0\0\0\0\0\0\0\0\xff", 21);
	memset(guest(PAYLOAD), 0xff, 32);
	assert_int_equal(run(GET_ID, 0, 6), OK);
	assert_memory_equal(guest(PAYLOAD), "number\xff", 7);
}

static void set_range(unsigned n, u64 sector, u32 count, u32 flags)
{
	u8 *at = guest(PAYLOAD + 16 * (u64)n);

	memcpy(at, &sector, 8);
	memcpy(at + 8, &count, 4);
	memcpy(at + 12, &flags, 4);
}

static void ranges_are_discarded_and_zeroed(void **state)
{
	(void)state;
	set_range(0, 2, 3, 0);
	assert_int_equal(run(DISCARD, 0, 16), OK);
	assert_int_equal(disk.discards, 1);
	assert_int_equal(disk.last_offset, 2 * 512);
	assert_int_equal(disk.last_length, 3 * 512);
	for (unsigned i = 0; i < 32; i++)
		set_range(i, 2 * i, 2, 1);
	assert_int_equal(run(WRITE_ZEROES, 0, 32 * 16), OK);
	assert_int_equal(disk.zeroes, 32);
	assert_int_equal(disk.last_offset, 62 * 512);
	assert_true(disk.last_unmap);
	set_range(0, 1, 1, 0);
	assert_int_equal(run(WRITE_ZEROES, 0, 16), OK);
	assert_false(disk.last_unmap);
}

static void bad_ranges_are_refused(void **state)
{
	(void)state;
	assert_int_equal(run(DISCARD, 0, 0), IOERR);
	assert_int_equal(run(DISCARD, 0, 15), IOERR);
	assert_int_equal(run(DISCARD, 0, 33 * 16), IOERR);
	set_range(0, 0, 1, 0);
	set_range(1, 64, 1, 0); /* all or nothing */
	assert_int_equal(run(DISCARD, 0, 32), IOERR);
	set_range(1, UINT64_MAX, 1, 0);
	assert_int_equal(run(WRITE_ZEROES, 0, 32), IOERR);
	set_range(1, 1, UINT32_MAX, 0);
	assert_int_equal(run(WRITE_ZEROES, 0, 32), IOERR);
	set_range(1, 1, 1, 1);
	assert_int_equal(run(DISCARD, 0, 32), UNSUPPORTED);
	set_range(1, 1, 1, 2);
	assert_int_equal(run(WRITE_ZEROES, 0, 32), UNSUPPORTED);
	assert_int_equal(disk.discards + disk.zeroes, 0);
}

static void error_in_one_range_ends_the_request(void **state)
{
	(void)state;
	set_range(0, 0, 1, 0);
	set_range(1, 1, 1, 0);
	disk.error = 28;
	assert_int_equal(run(WRITE_ZEROES, 0, 32), IOERR);
	assert_int_equal(disk.zeroes, 1);
}

static void what_was_not_agreed_on_is_unsupported(void **state)
{
	(void)state;
	set_range(0, 0, 1, 0);
	assert_int_equal(run(DISCARD, 0, 16), UNSUPPORTED);
	assert_int_equal(run(WRITE_ZEROES, 0, 16), UNSUPPORTED);
	assert_int_equal(run(2, 0, 16), UNSUPPORTED);
	assert_int_equal(run(UINT32_MAX, 0, 0), UNSUPPORTED);
	assert_int_equal(disk.discards + disk.zeroes, 0);
}

static void readonly_disk_is_not_written(void **state)
{
	(void)state;
	assert_true(device->offered & F_RO);
	assert_int_equal(device->offered & (F_DISCARD | F_WRITE_ZEROES), 0);
	assert_int_equal(run(OUT, 1, 512), IOERR);
	assert_int_equal(run(OUT, 1, 0), IOERR);
	assert_int_equal(run(IN, 1, 512), OK);
	assert_int_equal(run(FLUSH, 0, 0), OK);
}

/* --- drivers that break the rules -------------------------------------------------------------------------------- */

static void request_without_header_breaks(void **state)
{
	(void)state;
	descriptor(0, HEADER, 15, DESC_NEXT, 1);
	descriptor(1, STATUS_BYTE, 1, DESC_WRITE, 0);
	offer(0);
	kick_queue();
	assert_true(is_broken());
	assert_int_equal(used_index(), 0);
}

static void request_without_status_breaks(void **state)
{
	(void)state;
	write_header(HEADER, FLUSH, 0);
	descriptor(0, HEADER, 16, DESC_NEXT, 1);
	descriptor(1, STATUS_BYTE, 0, DESC_WRITE, 0);
	offer(0);
	kick_queue();
	assert_true(is_broken());
	assert_null(disk.waiting);
}

static void reset_waits_for_requests(void **state)
{
	(void)state;
	submit(IN, 1, 512);
	assert_non_null(disk.waiting);
	set_status(0);
	assert_null(disk.waiting);
	assert_int_equal(disk.drains, 1);
	memset(guest(QUEUE_AREA(0)), 0, 0x10000);
	start_driver(F_FLUSH);
	assert_int_equal(run(IN, 2, 512), OK);
}

static void broken_device_ends_what_is_under_way(void **state)
{
	(void)state;
	submit(OUT, 1, 512);
	offer(100);
	kick_queue();
	assert_true(is_broken());
	answer();
	assert_int_equal(used_index(), 0);
	set_status(0);
	assert_int_equal(status(), 0);
}

/* On the instruction clock nothing may depend on how fast the host is. */
static void requests_are_done_in_the_kick_on_the_instruction_clock(void **state)
{
	(void)state;
	vm->clock.source = CLOCK_SOURCE_INSTRUCTIONS;
	submit(IN, 1, 512);
	assert_int_equal(*status_byte(), OK);
	assert_int_equal(used_index(), 1);
	assert_int_equal(vm->stats.virtio_interrupts, 1);
}

static void missing_disk_is_named(void **state)
{
	const struct vm_disk config = {.config.path = "none"};
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(virtio_blk_create(vm, &config, &err), -1);
	assert_non_null(strstr(err.text, "none"));
}

int main(void)
{
#define TEST(name)       cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_PLAIN(name) cmocka_unit_test_setup_teardown(name, setup_plain, teardown)
	const struct CMUnitTest tests[] = {
		TEST(config_describes_the_disk),
		TEST(sectors_are_read),
		TEST(sectors_are_written),
		TEST(what_is_outside_is_refused),
		TEST(requests_may_be_cut_anywhere),
		TEST(requests_end_in_any_order),
		TEST(what_is_at_hand_is_done_in_the_kick),
		TEST(host_error_is_an_io_error),
		TEST(flush_reaches_the_disk),
		TEST_PLAIN(writes_are_flushed_without_the_feature),
		TEST(serial_number_is_told),
		TEST(ranges_are_discarded_and_zeroed),
		TEST(bad_ranges_are_refused),
		TEST(error_in_one_range_ends_the_request),
		TEST_PLAIN(what_was_not_agreed_on_is_unsupported),
		cmocka_unit_test_setup_teardown(readonly_disk_is_not_written, setup_readonly, teardown),
		TEST(request_without_header_breaks),
		TEST(request_without_status_breaks),
		TEST(reset_waits_for_requests),
		TEST(broken_device_ends_what_is_under_way),
		TEST(requests_are_done_in_the_kick_on_the_instruction_clock),
		TEST(missing_disk_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
