/* The transport's registers. */
#include "test_virtio_machine.h"

#define OFFERED (BIT(0) | BIT(40) | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1)

static struct pci_device *pci(void)
{
	return &device->transport->pci;
}

static u32 config_get(unsigned offset, unsigned size)
{
	return pci_device_read(pci(), offset, size);
}

static void config_set(unsigned offset, unsigned size, u32 value)
{
	pci_device_write(pci(), offset, size, value);
}

/* The offset of the vendor's capability of this type, or 0. */
static unsigned structure(u8 type)
{
	unsigned at = config_get(PCI_CAPABILITIES, 1);

	while (at && (config_get(at, 1) != PCI_CAP_VENDOR || config_get(at + 3, 1) != type))
		at = config_get(at + 1, 1);
	return at;
}

static void expect_structure(u8 type, u32 offset, u32 length, u8 size)
{
	const unsigned at = structure(type);

	assert_int_not_equal(at, 0);
	assert_int_equal(config_get(at + 2, 1), size);
	assert_int_equal(config_get(at + 4, 1), 0);
	assert_int_equal(config_get(at + 8, 4), offset);
	assert_int_equal(config_get(at + 12, 4), length);
}

static void identity_and_structures(void **state)
{
	(void)state;
	assert_int_equal(config_get(PCI_VENDOR, 2), 0x1af4);
	assert_int_equal(config_get(PCI_DEVICE, 2), 0x1040 + VIRTIO_ID_CONSOLE);
	assert_true(config_get(PCI_REVISION, 1) >= 1);
	assert_true(config_get(PCI_SUBSYSTEM + 2, 2) >= 0x40);
	assert_int_equal(config_get(PCI_CLASS, 1) | config_get(PCI_CLASS + 1, 2) << 8, 0x078000);
	expect_structure(1, COMMON, 56, 16);
	expect_structure(2, NOTIFY, 8, 20);
	assert_int_equal(config_get(structure(2) + 16, 4), 4);
	expect_structure(3, ISR, 1, 16);
	expect_structure(4, CONFIG, sizeof(probe.config), 16);
	expect_structure(5, 0, 0, 20);
}

static u64 read_features(u32 select_at, u32 word_at)
{
	u64 features = 0;

	for (unsigned i = 0; i < 2; i++) {
		set(COMMON + select_at, 4, i);
		assert_int_equal(get(COMMON + select_at, 4), i);
		features |= get(COMMON + word_at, 4) << 32 * i;
	}
	set(COMMON + select_at, 4, 2);
	assert_int_equal(get(COMMON + word_at, 4), 0);
	return features;
}

static void features_are_offered_and_accepted(void **state)
{
	(void)state;
	assert_int_equal(read_features(0, 4), OFFERED);
	set_status(ACKNOWLEDGED);
	accept_features(BIT(40) | VIRTIO_F_VERSION_1);
	set(COMMON + 8, 4, 7); /* there is nothing */
	set(COMMON + 12, 4, 0xffffffff);
	assert_int_equal(read_features(8, 12), BIT(40) | VIRTIO_F_VERSION_1);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK);
	assert_int_equal(status(), ACKNOWLEDGED | STATUS_FEATURES_OK);
	assert_int_equal(device->features, BIT(40) | VIRTIO_F_VERSION_1);
	accept_features(VIRTIO_F_VERSION_1); /* too late */
	assert_int_equal(read_features(8, 12), BIT(40) | VIRTIO_F_VERSION_1);
}

static void features_are_refused(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGED);
	accept_features(BIT(40));
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK);
	assert_int_equal(status(), ACKNOWLEDGED);
	accept_features(BIT(41) | VIRTIO_F_VERSION_1);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK);
	assert_int_equal(status(), ACKNOWLEDGED);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	assert_false(device->running);
	assert_int_equal(probe.starts, 0);
}

static void status_starts_and_resets(void **state)
{
	(void)state;
	set_status(0);
	assert_int_equal(probe.resets, 0); /* it was not running */
	start_driver(BIT(0));
	assert_int_equal(probe.starts, 1);
	assert_true(device->running);
	set_status(STATUS_ACKNOWLEDGE); /* bits stay */
	set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER_OK);
	assert_int_equal(status(), ACKNOWLEDGED | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	assert_int_equal(probe.starts, 1);
	set_status(0);
	assert_int_equal(status(), 0);
	assert_int_equal(probe.resets, 1);
	assert_false(device->running);
	assert_int_equal(device->features, 0);
	set(COMMON + 22, 2, 0);
	assert_int_equal(get(COMMON + 24, 2), 256);
	assert_int_equal(get(COMMON + 26, 2), NO_VECTOR);
	assert_int_equal(get(COMMON + 28, 2), 0);
	assert_int_equal(get(COMMON + 32, 8), 0);
	assert_int_equal(read_features(8, 12), 0);
	start_driver(0);
	assert_int_equal(probe.starts, 2);
}

static void driver_may_give_up(void **state)
{
	(void)state;
	set_status(STATUS_FAILED);
	assert_int_equal(status(), STATUS_FAILED);
	set_status(STATUS_FAILED | STATUS_NEEDS_RESET); /* that one is not the driver's */
	assert_int_equal(status(), STATUS_FAILED);
}

static void queue_registers_keep_values(void **state)
{
	(void)state;
	assert_int_equal(get(COMMON + 18, 2), 2);
	set(COMMON + 22, 2, 1);
	assert_int_equal(get(COMMON + 22, 2), 1);
	assert_int_equal(get(COMMON + 24, 2), 256);
	set(COMMON + 24, 2, 64);
	assert_int_equal(get(COMMON + 24, 2), 64);
	assert_int_equal(get(COMMON + 30, 2), 1);
	for (unsigned i = 0; i < 3; i++) {
		set(COMMON + 32 + 8 * i, 4, 0x1000 + i);
		set(COMMON + 36 + 8 * i, 4, 0x2000 + i);
		assert_int_equal(get(COMMON + 32 + 8 * i, 8), 0x200000001000 + 0x100000001 * i);
	}
	set(COMMON + 22, 2, 0);
	assert_int_equal(get(COMMON + 24, 2), 256);
	assert_int_equal(get(COMMON + 32, 8), 0);
	set(COMMON + 22, 2, 2); /* there is none */
	assert_int_equal(get(COMMON + 24, 2), 0);
	set(COMMON + 24, 2, 1);
	set(COMMON + 32, 8, 1);
	set(COMMON + 28, 2, 1);
	assert_int_equal(get(COMMON + 24, 2), 0);
	assert_int_equal(get(COMMON + 28, 2), 0);
}

static void vectors_must_exist(void **state)
{
	(void)state;
	set(COMMON + 16, 2, 2);
	assert_int_equal(get(COMMON + 16, 2), 2);
	set(COMMON + 16, 2, 3);
	assert_int_equal(get(COMMON + 16, 2), NO_VECTOR);
	set(COMMON + 22, 2, 0);
	set(COMMON + 26, 2, 0);
	assert_int_equal(get(COMMON + 26, 2), 0);
	set(COMMON + 26, 2, 0x1234);
	assert_int_equal(get(COMMON + 26, 2), NO_VECTOR);
}

/* Writes in a wrong width, to what is to be read only, and to nothing. */
static void odd_writes_change_nothing(void **state)
{
	u8 before[64], after[64];

	(void)state;
	start_driver(0);
	for (unsigned i = 0; i < sizeof(before); i++)
		before[i] = (u8)get(COMMON + i, 1);
	set(COMMON + 4, 4, 0xffffffff);
	set(COMMON + 18, 2, 77);
	set(COMMON + 21, 1, 77);
	set(COMMON + 30, 2, 77);
	set(COMMON + 28, 2, 2);
	set(COMMON + 28, 4, 1);
	set(COMMON + 0, 2, 1);
	set(COMMON + 9, 1, 1);
	set(COMMON + 20, 2, 0);
	set(COMMON + 32, 1, 1);
	set(COMMON + 34, 2, 1);
	for (unsigned at = 56; at < 0x1000; at += 4)
		set(COMMON + at, 4, 0);
	set(ISR, 1, 0xff);
	for (unsigned i = 0; i < sizeof(after); i++)
		after[i] = (u8)get(COMMON + i, 1);
	assert_memory_equal(before, after, sizeof(before));
	assert_int_equal(get(COMMON + 56, 4), 0);
	assert_int_equal(get(NOTIFY, 4), 0);
}

/* --- rings that cannot be ---------------------------------------------------------------------------------------- */

static void expect_refused(u64 descriptors, u64 available, u64 used, unsigned size)
{
	set_status(0);
	set_status(ACKNOWLEDGED);
	set_queue(0, descriptors, available, used, size);
	assert_true(is_broken());
	accept_features(VIRTIO_F_VERSION_1);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	assert_false(device->running);
	set(NOTIFY, 2, 0);
	assert_int_equal(probe.kicks, 0);
	assert_false(virtio_pop(device, 0, &chain));
}

static void rings_must_be_possible(void **state)
{
	const u64 d = 0x100000, a = 0x110000, u = 0x120000;

	(void)state;
	expect_refused(d, a, u, 0);
	expect_refused(d, a, u, 3);
	expect_refused(d, a, u, 512);
	expect_refused(d, a, u, 0xffff);
	expect_refused(d + 8, a, u, 8);
	expect_refused(d, a + 1, u, 8);
	expect_refused(d, a, u + 2, 8);
	expect_refused(RAM_LOW_END - 64, a, u, 8);
	expect_refused(d, RAM_LOW_END - 20, u, 8); /* 4 + 2 * 8 + 2 */
	expect_refused(d, a, RAM_LOW_END - 68, 8);
	expect_refused(UINT64_MAX - 15, a, u, 8);
	expect_refused(d, UINT64_MAX - 1, u, 8);
	expect_refused(d, a, RAM_HIGH_BASE + HIGH_SIZE, 8);
	set_status(0);
	set_status(ACKNOWLEDGED);
	set_queue(0, RAM_LOW_END - 128, RAM_LOW_END - 128 - 22, RAM_HIGH_BASE + HIGH_SIZE - 72, 8);
	assert_false(is_broken());
}

/* --- the device's configuration ---------------------------------------------------------------------------------- */

static void config_is_read_and_written(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(probe.config); i++)
		probe.config[i] = (u8)(i + 1);
	assert_int_equal(get(CONFIG, 4), 0x04030201);
	assert_int_equal(get(CONFIG + 1, 2), 0x0302);
	assert_int_equal(get(CONFIG, 8), 0x0807060504030201);
	assert_int_equal(get(CONFIG + 8, 4), 0x0a09);
	assert_int_equal(get(CONFIG + 0xffc, 4), 0);
	set(CONFIG + 2, 2, 0xbeef);
	assert_int_equal(probe.config_writes, 1);
	assert_int_equal(probe.written_offset, 2);
	assert_int_equal(probe.written_size, 2);
	assert_int_equal(get(CONFIG, 4), 0xbeef0201);
	set(CONFIG + 8, 4, 0xffffffff); /* not all of it is there */
	set(CONFIG + 0x800, 4, 0xffffffff);
	assert_int_equal(probe.config_writes, 1);
	assert_int_equal(get(CONFIG + 8, 4), 0x0a09);
}

static void change_of_config_is_told(void **state)
{
	const u64 generation = get(COMMON + 21, 1);

	(void)state;
	virtio_config_changed(device);
	assert_int_not_equal(get(COMMON + 21, 1), generation);
	assert_int_equal(get(ISR, 1), 0); /* there is no driver yet */
	start_driver(0);
	virtio_config_changed(device);
	assert_int_equal(get(ISR, 1), ISR_CONFIG);
}

/* --- interrupts -------------------------------------------------------------------------------------------------- */

static void isr_clears_and_lowers(void **state)
{
	(void)state;
	start_driver(0);
	virtio_config_changed(device);
	assert_true(pci()->line);
	assert_int_equal(get(ISR, 4), ISR_CONFIG);
	assert_false(pci()->line);
	assert_int_equal(get(ISR, 1), 0);
	virtio_config_changed(device);
	set_status(0);
	assert_false(pci()->line);
	assert_int_equal(get(ISR, 1), 0);
}

static void msix_is_used_if_enabled(void **state)
{
	(void)state;
	start_driver(0);
	set(COMMON + 16, 2, 0);
	pci()->msix.enabled = true; /* all vectors are masked */
	virtio_config_changed(device);
	assert_int_equal(pci()->msix.pending, 1);
	offer(0);
	assert_true(pop());
	virtio_push(device, 0, &chain, 0);
	virtio_notify(device, 0);
	assert_int_equal(pci()->msix.pending, 3);
	assert_int_equal(get(ISR, 1), 0);
	assert_false(pci()->line);
	pci()->msix.pending = 0;
	set(COMMON + 16, 2, NO_VECTOR);
	virtio_config_changed(device);
	assert_int_equal(pci()->msix.pending, 0);
}

static void broken_device_says_so(void **state)
{
	(void)state;
	start_driver(0);
	virtio_broken(device, "a test %s", "does so");
	assert_true(is_broken());
	assert_int_equal(get(ISR, 1), ISR_CONFIG);
	virtio_broken(device, "again");
	assert_int_equal(get(ISR, 1), 0);
	set_status(0);
	assert_int_equal(probe.resets, 1); /* what is under way ends */
	assert_int_equal(status(), 0);
	start_driver(0);
	set(NOTIFY, 2, 0);
	assert_int_equal(probe.kicks, 1);
}

/* --- kicks ------------------------------------------------------------------------------------------------------- */

static void kicks_reach_the_device(void **state)
{
	(void)state;
	set(NOTIFY, 2, 0);
	assert_int_equal(probe.kicks, 0); /* not started */
	start_driver(0);
	set(NOTIFY, 2, 0);
	set(NOTIFY + 4, 2, 1);
	assert_int_equal(probe.kicks, 2);
	assert_int_equal(probe.last_kick, 1);
	set(NOTIFY, 4, 0);
	assert_int_equal(probe.kicks, 3);
	assert_int_equal(probe.last_kick, 0);
	set(NOTIFY + 8, 2, 2); /* no such queue */
	set(NOTIFY + 0xffc, 2, 0);
	assert_int_equal(probe.kicks, 3);
	assert_int_equal(vm->stats.virtio_kicks, 3);
}

static void queue_that_is_not_enabled_is_not_kicked(void **state)
{
	(void)state;
	set_status(ACKNOWLEDGED);
	accept_features(VIRTIO_F_VERSION_1);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK);
	set_status(ACKNOWLEDGED | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	assert_true(device->running);
	set(NOTIFY, 2, 0);
	assert_int_equal(probe.kicks, 0);
	assert_false(pop());
	virtio_push(device, 0, &chain, 0);
	virtio_notify(device, 0);
	virtio_flush(device, 0, 3);
	virtio_unpop(device, 0);
}

/* --- the window in configuration space --------------------------------------------------------------------------- */

static void window(u8 bar, u32 offset, u32 length)
{
	const unsigned at = structure(5);

	config_set(at + 4, 1, bar);
	config_set(at + 8, 4, offset);
	config_set(at + 12, 4, length);
}

static void window_reaches_registers(void **state)
{
	const unsigned data = structure(5) + 16;

	(void)state;
	window(0, COMMON + 20, 1);
	config_set(data, 1, ACKNOWLEDGED);
	assert_int_equal(status(), ACKNOWLEDGED);
	assert_int_equal(config_get(data, 1), ACKNOWLEDGED);
	window(0, COMMON + 18, 2);
	assert_int_equal(config_get(data, 2), 2);
	window(0, COMMON + 4, 4);
	assert_int_equal(config_get(data, 4), (u32)OFFERED);
	window(1, 8, 4);
	config_set(data, 4, 0x55aa);
	assert_int_equal(pci()->msix.entry[0].data, 0x55aa);
}

static void window_that_fits_nothing_does_nothing(void **state)
{
	const unsigned data = structure(5) + 16;

	(void)state;
	set_status(ACKNOWLEDGED);
	for (unsigned length = 0; length < 10; length++) {
		if (length == 1 || length == 2 || length == 4)
			continue;
		window(0, COMMON + 20, length);
		config_set(data, 4, 0);
		config_get(data, 4);
		assert_int_equal(status(), ACKNOWLEDGED);
	}
	window(0, COMMON + 21, 2);
	config_set(data, 4, 0);
	window(0, 0x4000 - 1, 2);
	config_set(data, 4, 0);
	window(0, UINT32_MAX, 1);
	config_set(data, 4, 0);
	config_get(data, 4);
	window(2, 0, 4);
	config_set(data, 4, 0);
	window(255, 0, 4);
	config_set(data, 4, 0);
	config_get(data, 4);
	/* what is beside the data has no effect */
	window(0, COMMON + 20, 1);
	config_set(data - 2, 1, 0);
	assert_int_equal(status(), ACKNOWLEDGED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, virtio_setup, virtio_teardown)
	const struct CMUnitTest tests[] = {
		TEST(identity_and_structures),  TEST(features_are_offered_and_accepted),
		TEST(features_are_refused),     TEST(status_starts_and_resets),
		TEST(driver_may_give_up),       TEST(queue_registers_keep_values),
		TEST(vectors_must_exist),       TEST(odd_writes_change_nothing),
		TEST(rings_must_be_possible),   TEST(config_is_read_and_written),
		TEST(change_of_config_is_told), TEST(isr_clears_and_lowers),
		TEST(msix_is_used_if_enabled),  TEST(broken_device_says_so),
		TEST(kicks_reach_the_device),   TEST(queue_that_is_not_enabled_is_not_kicked),
		TEST(window_reaches_registers), TEST(window_that_fits_nothing_does_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
