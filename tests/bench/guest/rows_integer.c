/* Integer compute in loops and small data structures, without calls into the C library. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SIEVE_SIZE = 1 << 19 };

static void *sieve_setup(void)
{
	return bench_alloc(SIEVE_SIZE);
}

static void sieve_teardown(void *state)
{
	munmap(state, SIEVE_SIZE);
}

static void sieve_run(struct job *job)
{
	uint8_t *composite = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < SIEVE_SIZE; i++)
			composite[i] = 0;
		for (uint32_t i = 2; i * i < SIEVE_SIZE; i++)
			if (!composite[i])
				for (uint32_t j = i * i; j < SIEVE_SIZE; j += i)
					composite[j] = 1;
		for (uint32_t i = 2; i < SIEVE_SIZE; i++)
			if (!composite[i])
				sum += i;
		job_sum(job, sum);
		barrier();
	}
}

enum { SORT_COUNT = 20000 };

struct sort_state {
	uint32_t source[SORT_COUNT];
	uint32_t work[SORT_COUNT];
};

static void *sort_setup(void)
{
	struct sort_state *state = bench_alloc(sizeof(*state));
	uint64_t seed = 42;

	for (int i = 0; state && i < SORT_COUNT; i++)
		state->source[i] = (uint32_t)(random_next(&seed) >> 32);
	return state;
}

static void sort_teardown(void *state)
{
	munmap(state, sizeof(struct sort_state));
}

/* Three-way median, Hoare partition, recursion into the smaller part, insertion sort for short ranges. */
static void quick_sort(uint32_t *v, long low, long high)
{
	while (high - low > 12) {
		uint32_t a = v[low], b = v[low + (high - low) / 2], c = v[high];
		uint32_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
		long i = low, j = high;

		while (i <= j) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t swap = v[i];

				v[i++] = v[j];
				v[j--] = swap;
			}
		}
		if (j - low < high - i) {
			quick_sort(v, low, j);
			low = i;
		} else {
			quick_sort(v, i, high);
			high = j;
		}
	}
	for (long i = low + 1; i <= high; i++) {
		uint32_t value = v[i];
		long j = i;

		for (; j > low && v[j - 1] > value; j--)
			v[j] = v[j - 1];
		v[j] = value;
	}
}

static uint64_t sorted_sum(struct job *job, const uint32_t *v)
{
	uint64_t sum = 0;

	for (int i = 0; i < SORT_COUNT; i++) {
		if (i && v[i - 1] > v[i])
			job_fail(job, "not sorted");
		sum = sum_mix(sum, v[i]);
	}
	return sum;
}

static void quick_sort_run(struct job *job)
{
	struct sort_state *state = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		for (int i = 0; i < SORT_COUNT; i++)
			state->work[i] = state->source[i];
		quick_sort(state->work, 0, SORT_COUNT - 1);
		job_sum(job, sorted_sum(job, state->work));
		barrier();
	}
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void qsort_run(struct job *job)
{
	struct sort_state *state = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		memcpy(state->work, state->source, sizeof(state->work));
		qsort(state->work, SORT_COUNT, sizeof(state->work[0]), compare_u32);
		job_sum(job, sorted_sum(job, state->work));
		barrier();
	}
}

enum { TREAP_KEYS = 8192, TREAP_LOOKUPS = 16384 };

struct treap_node {
	struct treap_node *left, *right;
	uint32_t key, priority;
};

static void *treap_setup(void)
{
	return bench_alloc(TREAP_KEYS * sizeof(struct treap_node));
}

static void treap_teardown(void *state)
{
	munmap(state, TREAP_KEYS * sizeof(struct treap_node));
}

static struct treap_node *treap_insert(struct treap_node *root, struct treap_node *node)
{
	if (!root)
		return node;
	if (node->key < root->key) {
		struct treap_node *child = root->left = treap_insert(root->left, node);

		if (child->priority > root->priority) {
			root->left = child->right;
			child->right = root;
			return child;
		}
	} else {
		struct treap_node *child = root->right = treap_insert(root->right, node);

		if (child->priority > root->priority) {
			root->right = child->left;
			child->left = root;
			return child;
		}
	}
	return root;
}

static uint32_t treap_depth_of(const struct treap_node *root, uint32_t key)
{
	uint32_t depth = 0;

	for (; root && root->key != key; depth++)
		root = key < root->key ? root->left : root->right;
	return root ? depth : depth | 0x80000000u;
}

static void treap_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		struct treap_node *pool = job->state, *root = NULL;
		uint64_t seed = 7, sum = 0;

		for (int i = 0; i < TREAP_KEYS; i++) {
			uint64_t r = random_next(&seed);

			pool[i] = (struct treap_node){.key = (uint32_t)r & 0xffff, .priority = (uint32_t)(r >> 32)};
			root = treap_insert(root, &pool[i]);
		}
		for (int i = 0; i < TREAP_LOOKUPS; i++)
			sum = sum_mix(sum, treap_depth_of(root, (uint32_t)random_next(&seed) & 0xffff));
		job_sum(job, sum);
		barrier();
	}
}

enum { TABLE_BUCKETS = 4096, TABLE_KEYS = 8192, KEY_SIZE = 16 };

struct table_entry {
	struct table_entry *next;
	uint32_t hash, hits;
	char key[KEY_SIZE];
};

struct table_state {
	struct table_entry *buckets[TABLE_BUCKETS];
	struct table_entry entries[TABLE_KEYS];
};

static void *table_setup(void)
{
	return bench_alloc(sizeof(struct table_state));
}

static void table_teardown(void *state)
{
	munmap(state, sizeof(struct table_state));
}

static void table_key(char *key, uint32_t number)
{
	int length = 0;

	for (number = number * 2654435761u | 1; number; number /= 29)
		key[length++] = (char)('a' + number % 29);
	key[length] = 0;
}

static uint32_t table_hash(const char *key)
{
	uint32_t hash = 2166136261u;

	while (*key)
		hash = (hash ^ (uint8_t)*key++) * 16777619u;
	return hash;
}

static struct table_entry **table_find(struct table_state *table, const char *key, uint32_t hash)
{
	struct table_entry **at = &table->buckets[hash % TABLE_BUCKETS];

	for (; *at; at = &(*at)->next) {
		const char *a = (*at)->key, *b = key;

		if ((*at)->hash != hash)
			continue;
		while (*a && *a == *b) {
			a++;
			b++;
		}
		if (*a == *b)
			break;
	}
	return at;
}

static void hash_table_run(struct job *job)
{
	struct table_state *table = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t seed = 99, sum = 0;
		uint32_t used = 0;

		for (int i = 0; i < TABLE_BUCKETS; i++)
			table->buckets[i] = NULL;
		while (used < TABLE_KEYS) {
			struct table_entry *entry = &table->entries[used], **at;

			table_key(entry->key, (uint32_t)random_next(&seed) & 0x3fff);
			entry->hash = table_hash(entry->key);
			at = table_find(table, entry->key, entry->hash);
			if (*at) {
				sum = sum_mix(sum, ++(*at)->hits);
				if ((*at)->hits == 3) { /* also exercise removal */
					*at = (*at)->next;
				}
				continue;
			}
			entry->next = NULL;
			entry->hits = 0;
			*at = entry;
			used++;
		}
		job_sum(job, sum);
		barrier();
	}
}

const struct row rows_integer[] = {
	{"sieve", "us", 1, sieve_setup, sieve_run, sieve_teardown},
	{"quicksort", "us", 1, sort_setup, quick_sort_run, sort_teardown},
	{"qsort_callback", "us", 1, sort_setup, qsort_run, sort_teardown},
	{"treap", "us", 1, treap_setup, treap_run, treap_teardown},
	{"hash_table", "us", 1, table_setup, hash_table_run, table_teardown},
	{0},
};
