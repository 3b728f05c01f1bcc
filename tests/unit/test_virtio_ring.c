/* Split rings: what a driver may do, and what it may not. */
#include "test_virtio_machine.h"

#define GIB (1ULL << 30)

static int setup(void **state)
{
	virtio_setup(state);
	start_driver(VIRTIO_F_INDIRECT_DESC);
	return 0;
}

/* Event index was agreed on, indirect descriptors were not. */
static int setup_event(void **state)
{
	virtio_setup(state);
	start_driver(VIRTIO_F_EVENT_IDX);
	return 0;
}

/* The device is broken, has written nothing to the used ring, and goes on as if nothing had been after a reset. */
static void expect_broken(void)
{
	assert_false(pop());
	assert_true(is_broken());
	assert_int_equal(used_index(), 0);
	assert_false(pop());
	set_status(0);
	assert_int_equal(status(), 0);
	memset(guest(QUEUE_AREA(0)), 0, 0x10000);
	start_driver(VIRTIO_F_INDIRECT_DESC);
	descriptor(0, DATA, 4, 0, 0);
	offer(0);
	assert_true(pop());
}

/* --- good chains ------------------------------------------------------------------------------------------------- */

static void chain_has_what_the_driver_put_there(void **state)
{
	(void)state;
	descriptor(3, DATA, 16, DESC_NEXT, 1);
	descriptor(1, DATA + 0x1000, 32, DESC_NEXT, 7);
	descriptor(7, DATA + 0x2000, 512, DESC_NEXT | DESC_WRITE, 0);
	descriptor(0, RAM_HIGH_BASE + 8, 1, DESC_WRITE, 5);
	assert_false(pop());
	offer(3);
	assert_true(pop());
	assert_int_equal(chain.head, 3);
	assert_int_equal(chain.out_count, 2);
	assert_int_equal(chain.out_bytes, 48);
	assert_int_equal(chain.in_count, 2);
	assert_int_equal(chain.in_bytes, 513);
	assert_ptr_equal(chain.out[0].iov_base, guest(DATA));
	assert_int_equal(chain.out[0].iov_len, 16);
	assert_ptr_equal(chain.out[1].iov_base, guest(DATA + 0x1000));
	assert_ptr_equal(chain.in[0].iov_base, guest(DATA + 0x2000));
	assert_ptr_equal(chain.in[1].iov_base, guest(RAM_HIGH_BASE + 8));
	assert_int_equal(chain.in[1].iov_len, 1);
	assert_false(pop());
	assert_false(is_broken());

	virtio_push(device, 0, &chain, 513);
	assert_int_equal(used_index(), 1);
	assert_int_equal(used_entry(0)[0], 3);
	assert_int_equal(used_entry(0)[1], 513);
}

static void empty_pieces_are_left_out(void **state)
{
	(void)state;
	descriptor(0, 0xdeadbeef0000, 0, DESC_NEXT, 1);
	descriptor(1, DATA, 4, DESC_NEXT, 2);
	descriptor(2, DATA, 0, DESC_WRITE, 0);
	offer(0);
	offer(2);
	assert_true(pop());
	assert_int_equal(chain.out_count, 1);
	assert_int_equal(chain.in_count, 0);
	assert_true(pop());
	assert_int_equal(chain.out_count + chain.in_count, 0);
	assert_int_equal(chain.head, 2);
}

static void whole_queue_is_one_chain(void **state)
{
	(void)state;
	for (u16 i = 0; i < 8; i++)
		descriptor(i, DATA + 16ULL * i, 16, i < 7 ? DESC_NEXT : 0, (u16)(i + 1));
	offer(0);
	assert_true(pop());
	assert_int_equal(chain.out_count, 8);
	assert_int_equal(chain.out_bytes, 128);
}

static void indices_wrap(void **state)
{
	(void)state;
	descriptor(5, DATA, 4, DESC_WRITE, 0);
	for (unsigned i = 0; i < 70000; i++) {
		offer(5);
		assert_true(pop());
		assert_false(pop());
		virtio_push(device, 0, &chain, i & 3);
		assert_int_equal(used_index(), (u16)(i + 1));
		assert_int_equal(used_entry(i)[0], 5);
		assert_int_equal(used_entry(i)[1], i & 3);
	}
}

static void chains_come_back_in_any_order(void **state)
{
	struct virtio_chain second;

	(void)state;
	assert_int_equal(virtio_chain_init(&second), 0);
	descriptor(0, DATA, 4, DESC_WRITE, 0);
	descriptor(1, DATA, 4, DESC_WRITE, 0);
	offer(0);
	offer(1);
	assert_true(pop());
	assert_true(virtio_pop(device, 0, &second));
	virtio_push(device, 0, &second, 2);
	virtio_push(device, 0, &chain, 1);
	assert_int_equal(used_entry(0)[0], 1);
	assert_int_equal(used_entry(0)[1], 2);
	assert_int_equal(used_entry(1)[0], 0);
	virtio_chain_release(&second);
}

static void unpopped_chain_comes_again(void **state)
{
	(void)state;
	descriptor(0, DATA, 4, DESC_WRITE, 0);
	descriptor(1, DATA, 4, DESC_WRITE, 0);
	offer(0);
	offer(1);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(pop());
		assert_int_equal(chain.head, 0);
		virtio_unpop(device, 0);
	}
	assert_true(pop());
	assert_true(pop());
	assert_int_equal(chain.head, 1);
}

static void filled_entries_show_when_flushed(void **state)
{
	(void)state;
	for (u16 i = 0; i < 3; i++) {
		descriptor(i, DATA, 4, DESC_WRITE, 0);
		offer(i);
		assert_true(pop());
		virtio_fill(device, 0, &chain, 10 + i, i);
		assert_int_equal(used_index(), 0);
	}
	virtio_flush(device, 0, 3);
	assert_int_equal(used_index(), 3);
	for (u16 i = 0; i < 3; i++) {
		assert_int_equal(used_entry(i)[0], i);
		assert_int_equal(used_entry(i)[1], 10 + i);
	}
}

static void copies_cross_pieces(void **state)
{
	u8 text[10] = {0};

	(void)state;
	descriptor(0, DATA, 3, DESC_NEXT, 1);
	descriptor(1, DATA + 100, 4, DESC_NEXT, 2);
	descriptor(2, DATA + 200, 2, DESC_NEXT | DESC_WRITE, 3);
	descriptor(3, DATA + 300, 5, DESC_WRITE, 0);
	memcpy(guest(DATA), "abc", 3);
	memcpy(guest(DATA + 100), "defg", 4);
	offer(0);
	assert_true(pop());
	assert_int_equal(virtio_copy_from(&chain, 0, text, 10), 7);
	assert_memory_equal(text, "abcdefg", 8);
	assert_int_equal(virtio_copy_from(&chain, 2, text, 3), 3);
	assert_memory_equal(text, "cde", 3);
	assert_int_equal(virtio_copy_from(&chain, 7, text, 3), 0);
	assert_int_equal(virtio_copy_from(&chain, UINT64_MAX, text, 3), 0);
	assert_int_equal(virtio_copy_to(&chain, 1, "XYZ", 3), 3);
	assert_memory_equal(guest(DATA + 200), "\0X", 3);
	assert_memory_equal(guest(DATA + 300), "YZ\0\0\0", 6);
	assert_int_equal(virtio_copy_to(&chain, 5, "12345", 5), 2);
}

/* --- indirect descriptors ------------------------------------------------------------------------------------------
 */

static void indirect_table_is_followed(void **state)
{
	(void)state;
	descriptor(0, DATA, 8, DESC_NEXT, 4);
	descriptor(4, TABLE, 3 * 16, DESC_INDIRECT | DESC_WRITE, 9); /* that flag and next mean nothing here */
	descriptor_at(TABLE, 0, DATA + 8, 8, DESC_NEXT, 2);
	descriptor_at(TABLE, 2, DATA + 64, 8, DESC_WRITE | DESC_NEXT, 1);
	descriptor_at(TABLE, 1, DATA + 128, 8, DESC_WRITE, 0);
	offer(0);
	assert_true(pop());
	assert_int_equal(chain.head, 0);
	assert_int_equal(chain.out_count, 2);
	assert_int_equal(chain.in_count, 2);
	assert_ptr_equal(chain.in[1].iov_base, guest(DATA + 128));
}

static void make_table(unsigned count)
{
	descriptor(0, TABLE, count * 16, DESC_INDIRECT, 0);
	for (unsigned i = 0; i < count; i++)
		descriptor_at(TABLE, i, DATA + i, 1, i + 1 < count ? DESC_NEXT : 0, (u16)(i + 1));
	offer(0);
}

static void longest_chain_is_taken(void **state)
{
	(void)state;
	make_table(VIRTIO_CHAIN_MAX);
	assert_true(pop());
	assert_int_equal(chain.out_count, VIRTIO_CHAIN_MAX);
}

static void longer_chain_breaks(void **state)
{
	(void)state;
	make_table(VIRTIO_CHAIN_MAX + 1);
	expect_broken();
}

static void indirect_must_be_agreed_on(void **state)
{
	(void)state;
	make_table(2);
	assert_false(pop());
	assert_true(is_broken());
}

static void indirect_in_indirect_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor_at(TABLE, 1, TABLE, 32, DESC_INDIRECT, 0);
	expect_broken();
}

static void indirect_before_another_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor(0, TABLE, 32, DESC_INDIRECT | DESC_NEXT, 1);
	expect_broken();
}

static void indirect_of_no_size_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor(0, TABLE, 0, DESC_INDIRECT, 0);
	expect_broken();
}

static void indirect_of_odd_size_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor(0, TABLE, 33, DESC_INDIRECT, 0);
	expect_broken();
}

static void indirect_outside_of_memory_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor(0, RAM_LOW_END - 16, 32, DESC_INDIRECT, 0);
	expect_broken();
}

static void next_outside_of_indirect_table_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor_at(TABLE, 1, DATA, 4, DESC_NEXT, 2);
	expect_broken();
}

static void loop_in_indirect_table_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor_at(TABLE, 1, DATA, 4, DESC_NEXT, 0);
	expect_broken();
}

static void loop_of_empty_pieces_breaks(void **state)
{
	(void)state;
	make_table(2);
	descriptor_at(TABLE, 1, DATA, 0, DESC_NEXT, 1);
	expect_broken();
}

/* --- bad chains -------------------------------------------------------------------------------------------------- */

static void loop_breaks(void **state)
{
	(void)state;
	descriptor(0, DATA, 4, DESC_NEXT, 1);
	descriptor(1, DATA, 4, DESC_NEXT, 0);
	offer(0);
	expect_broken();
}

static void loop_to_itself_breaks(void **state)
{
	(void)state;
	descriptor(2, DATA, 0, DESC_NEXT, 2);
	offer(2);
	expect_broken();
}

static void head_outside_of_table_breaks(void **state)
{
	(void)state;
	offer(8);
	expect_broken();
}

static void next_outside_of_table_breaks(void **state)
{
	(void)state;
	descriptor(0, DATA, 4, DESC_NEXT, 8);
	offer(0);
	expect_broken();
}

static void reading_after_writing_breaks(void **state)
{
	(void)state;
	descriptor(0, DATA, 4, DESC_NEXT | DESC_WRITE, 1);
	descriptor(1, DATA, 4, 0, 0);
	offer(0);
	expect_broken();
}

/* One piece that is not all memory; none of it may be used. */
static void expect_bad_piece(u64 address, u32 length)
{
	descriptor(0, DATA, 4, DESC_NEXT, 1);
	descriptor(1, address, length, DESC_WRITE, 0);
	offer(0);
	expect_broken();
	set_status(0);
	memset(guest(QUEUE_AREA(0)), 0, 0x10000);
	start_driver(VIRTIO_F_INDIRECT_DESC);
}

static void pieces_outside_of_memory_break(void **state)
{
	(void)state;
	expect_bad_piece(RAM_LOW_END, 1);
	expect_bad_piece(RAM_LOW_END - 1, 2);
	expect_bad_piece(RAM_LOW_END - 4, 0xffffffff); /* would reach to above the hole */
	expect_bad_piece(RAM_HIGH_BASE - 1, 1);
	expect_bad_piece(RAM_HIGH_BASE - 1, 2);
	expect_bad_piece(RAM_HIGH_BASE + HIGH_SIZE, 1);
	expect_bad_piece(RAM_HIGH_BASE + HIGH_SIZE - 1, 2);
	expect_bad_piece(RAM_HIGH_BASE, 0xffffffff);
	expect_bad_piece(MMIO_LAPIC, 4);
	expect_bad_piece(UINT64_MAX, 1);
	expect_bad_piece(UINT64_MAX, 2);
	expect_bad_piece(UINT64_MAX - 0xfffffffe, 0xffffffff);
	expect_bad_piece(BIT(63), 16);
}

static void more_than_4_gib_break(void **state)
{
	(void)state;
	for (u16 i = 0; i < 4; i++)
		descriptor(i, 0, (u32)GIB, DESC_NEXT, (u16)(i + 1));
	descriptor(3, 0, (u32)GIB - 1, 0, 0);
	offer(0);
	assert_true(pop());
	assert_int_equal(chain.out_bytes, 4 * GIB - 1);
	descriptor(3, 0, (u32)GIB, 0, 0);
	offer(0);
	assert_false(pop());
	assert_true(is_broken());
}

/* --- bad rings --------------------------------------------------------------------------------------------------- */

static void index_may_be_ahead_by_the_size(void **state)
{
	(void)state;
	*available_word(1) = 8;
	for (unsigned i = 0; i < 8; i++)
		assert_true(pop());
	assert_false(pop());
	assert_false(is_broken());
}

static void index_further_ahead_breaks(void **state)
{
	(void)state;
	*available_word(1) = 9;
	expect_broken();
}

static void index_that_goes_back_breaks(void **state)
{
	(void)state;
	descriptor(0, DATA, 4, 0, 0);
	offer(0);
	assert_true(pop());
	*available_word(1) = 0;
	expect_broken();
}

/* More chains than descriptors cannot be under way at once. */
static void reuse_of_descriptors_in_flight_breaks(void **state)
{
	(void)state;
	descriptor(0, DATA, 4, 0, 0);
	for (unsigned i = 0; i < 8; i++) {
		offer(0);
		assert_true(pop());
	}
	offer(0);
	expect_broken();
}

static void answer_everything(struct probe *p, unsigned queue)
{
	(void)p;
	while (virtio_pop(device, queue, &chain)) {
		/* what the device writes is the available ring's own index */
		const u16 index = (u16)(*available_word(1) + 1);

		virtio_copy_to(&chain, 0, &index, sizeof(index));
		virtio_push(device, queue, &chain, sizeof(index));
	}
}

static void ring_that_feeds_itself_breaks(void **state)
{
	(void)state;
	descriptor(0, QUEUE_AREA(0) + AVAILABLE + 2, 2, DESC_WRITE, 0);
	offer(0);
	probe.on_kick = answer_everything;
	set(NOTIFY, 2, 0);
	assert_true(is_broken());
	assert_int_equal(used_index(), 8);
}

/* Outside of kicks there is no such bound: a device may pop for ever what comes later. */
static void later_pops_are_not_bounded(void **state)
{
	(void)state;
	probe.on_kick = answer_everything;
	descriptor(0, DATA, 2, DESC_WRITE, 0);
	for (unsigned i = 0; i < 100; i++) {
		offer(0);
		set(NOTIFY, 2, 0);
	}
	probe.on_kick = NULL;
	for (unsigned i = 0; i < 100; i++) {
		offer(0);
		assert_true(pop());
		virtio_push(device, 0, &chain, 0);
	}
	assert_false(is_broken());
}

/* --- when nothing may happen ------------------------------------------------------------------------------------- */

static void take_one(void)
{
	descriptor(0, DATA, 4, DESC_WRITE, 0);
	offer(0);
	assert_true(pop());
}

static void nothing_is_pushed_after_a_reset(void **state)
{
	(void)state;
	take_one();
	set_status(0);
	virtio_push(device, 0, &chain, 4);
	virtio_notify(device, 0);
	assert_int_equal(used_index(), 0);
	assert_int_equal(used_entry(0)[1], 0);
	assert_int_equal(get(ISR, 1), 0);
	virtio_unpop(device, 0);
	assert_false(pop());
}

static void nothing_is_pushed_when_broken(void **state)
{
	(void)state;
	take_one();
	virtio_broken(device, "a test does so");
	virtio_push(device, 0, &chain, 4);
	assert_int_equal(used_index(), 0);
	assert_int_equal(used_entry(0)[1], 0);
	set(NOTIFY, 2, 0);
	assert_int_equal(probe.kicks, 0);
}

static void who_is_not_master_touches_nothing(void **state)
{
	u8 *command = device->transport->pci.config + PCI_COMMAND;

	(void)state;
	take_one();
	*command &= (u8)~PCI_COMMAND_MASTER;
	virtio_push(device, 0, &chain, 4);
	assert_int_equal(used_index(), 0);
	offer(0);
	assert_false(pop());
	*command |= PCI_COMMAND_MASTER;
	virtio_push(device, 0, &chain, 4);
	assert_int_equal(used_index(), 1);
	assert_true(pop());
}

/* What the driver writes to the registers of a queue in use changes nothing. */
static void registers_of_a_live_queue_are_only_registers(void **state)
{
	(void)state;
	take_one();
	set_queue(0, 0xffffffff0000, 3, 5, 1024);
	set(COMMON + 28, 2, 0);
	assert_false(is_broken());
	virtio_push(device, 0, &chain, 4);
	assert_int_equal(used_index(), 1);
	offer(0);
	assert_true(pop());
	assert_int_equal(chain.in_bytes, 4);
}

/* --- interrupts -------------------------------------------------------------------------------------------------- */

/* Takes and returns one chain. Was the driver interrupted? */
static bool interrupts(void)
{
	offer(0);
	assert_true(pop());
	virtio_push(device, 0, &chain, 0);
	virtio_notify(device, 0);
	return get(ISR, 1) & ISR_QUEUE;
}

static void driver_is_interrupted_unless_it_says_no(void **state)
{
	(void)state;
	assert_true(interrupts());
	*available_word(0) = 1;
	assert_false(interrupts());
	*available_word(0) = 0;
	assert_true(interrupts());
	virtio_notify(device, 0); /* nothing new */
	assert_int_equal(get(ISR, 1), 0);
}

static void event_index_says_when_to_interrupt(void **state)
{
	(void)state;
	*available_word(0) = 1; /* means nothing now */
	*used_event() = 0;
	assert_true(interrupts());
	assert_false(interrupts());
	*used_event() = 4;
	assert_false(interrupts());
	assert_false(interrupts());
	assert_true(interrupts());
	assert_false(interrupts());
}

static void batch_that_passes_the_event_interrupts_once(void **state)
{
	(void)state;
	*used_event() = 2;
	for (unsigned i = 0; i < 5; i++) {
		offer(0);
		assert_true(pop());
		virtio_push(device, 0, &chain, 0);
	}
	virtio_notify(device, 0);
	assert_int_equal(get(ISR, 1), ISR_QUEUE);
	virtio_notify(device, 0);
	assert_int_equal(get(ISR, 1), 0);
}

static void event_index_wraps(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 140000; i++) {
		*used_event() = (u16)i;
		assert_true(interrupts());
	}
}

static void device_says_when_to_kick(void **state)
{
	(void)state;
	offer(0);
	assert_true(pop());
	assert_int_equal(*avail_event(), 0); /* it has not looked for more */
	assert_false(pop());
	assert_int_equal(*avail_event(), 1);
	offer(0);
	offer(0);
	assert_true(pop());
	assert_true(pop());
	assert_false(pop());
	assert_int_equal(*avail_event(), 3);
}

/* --- translated code --------------------------------------------------------------------------------------------- */

static u8 *frame(u64 gpa)
{
	return &vm->ram.frames[((u8 *)guest(gpa) - vm->ram.host) >> PAGE_SHIFT];
}

static void written_pages_lose_their_translations(void **state)
{
	(void)state;
	descriptor(0, DATA + 0xffe, 0x1004, DESC_WRITE | DESC_NEXT, 1);
	descriptor(1, RAM_HIGH_BASE, 16, DESC_WRITE, 0);
	offer(0);
	assert_true(pop());
	for (unsigned page = 0; page < 3; page++)
		*frame(DATA + page * PAGE_SIZE) |= FRAME_CODE;
	*frame(RAM_HIGH_BASE) |= FRAME_CODE;
	virtio_push(device, 0, &chain, 0);
	assert_int_equal(vm->stats.smc_writes, 0);
	virtio_push(device, 0, &chain, 2);
	assert_int_equal(vm->stats.smc_writes, 1);
	virtio_push(device, 0, &chain, 3);
	assert_int_equal(vm->stats.smc_writes, 1 + 2);
	virtio_push(device, 0, &chain, 0x1003);
	assert_int_equal(vm->stats.smc_writes, 1 + 2 + 3);
	virtio_push(device, 0, &chain, 0x1014);
	assert_int_equal(vm->stats.smc_writes, 1 + 2 + 3 + 4);
}

/* The used ring itself may lie where code was. */
static void rings_are_written_to_as_well(void **state)
{
	(void)state;
	take_one();
	*frame(QUEUE_AREA(0) + USED) |= FRAME_CODE;
	virtio_push(device, 0, &chain, 0);
	assert_in_range(vm->stats.smc_writes, 1, 2); /* entry and index; the flag stays where nobody has code */
}

int main(void)
{
#define TEST(name)       cmocka_unit_test_setup_teardown(name, setup, virtio_teardown)
#define TEST_EVENT(name) cmocka_unit_test_setup_teardown(name, setup_event, virtio_teardown)
	const struct CMUnitTest tests[] = {
		TEST(chain_has_what_the_driver_put_there),
		TEST(empty_pieces_are_left_out),
		TEST(whole_queue_is_one_chain),
		TEST(indices_wrap),
		TEST(chains_come_back_in_any_order),
		TEST(unpopped_chain_comes_again),
		TEST(filled_entries_show_when_flushed),
		TEST(copies_cross_pieces),
		TEST(indirect_table_is_followed),
		TEST(longest_chain_is_taken),
		TEST(longer_chain_breaks),
		TEST_EVENT(indirect_must_be_agreed_on),
		TEST(indirect_in_indirect_breaks),
		TEST(indirect_before_another_breaks),
		TEST(indirect_of_no_size_breaks),
		TEST(indirect_of_odd_size_breaks),
		TEST(indirect_outside_of_memory_breaks),
		TEST(next_outside_of_indirect_table_breaks),
		TEST(loop_in_indirect_table_breaks),
		TEST(loop_of_empty_pieces_breaks),
		TEST(loop_breaks),
		TEST(loop_to_itself_breaks),
		TEST(head_outside_of_table_breaks),
		TEST(next_outside_of_table_breaks),
		TEST(reading_after_writing_breaks),
		TEST(pieces_outside_of_memory_break),
		TEST(more_than_4_gib_break),
		TEST(index_may_be_ahead_by_the_size),
		TEST(index_further_ahead_breaks),
		TEST(index_that_goes_back_breaks),
		TEST(reuse_of_descriptors_in_flight_breaks),
		TEST(ring_that_feeds_itself_breaks),
		TEST(later_pops_are_not_bounded),
		TEST(nothing_is_pushed_after_a_reset),
		TEST(nothing_is_pushed_when_broken),
		TEST(who_is_not_master_touches_nothing),
		TEST(registers_of_a_live_queue_are_only_registers),
		TEST(driver_is_interrupted_unless_it_says_no),
		TEST_EVENT(event_index_says_when_to_interrupt),
		TEST_EVENT(batch_that_passes_the_event_interrupts_once),
		TEST_EVENT(event_index_wraps),
		TEST_EVENT(device_says_when_to_kick),
		TEST(written_pages_lose_their_translations),
		TEST(rings_are_written_to_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
