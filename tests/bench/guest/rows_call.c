/* Code made of calls, returns and indirect jumps: what a translator's chaining and return prediction are for. */
#include "bench.h"

#include <sys/mman.h>

KEEP_CALL static uint64_t fib(uint64_t n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void fib_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++)
		job_sum(job, fib(22));
}

/* Deep recursion: the stack goes hundreds of frames down and up again. */
KEEP_CALL static uint64_t ackermann(uint64_t m, uint64_t n)
{
	if (!m)
		return n + 1;
	if (!n)
		return ackermann(m - 1, 1);
	return ackermann(m - 1, ackermann(m, n - 1));
}

static void ackermann_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++)
		job_sum(job, ackermann(2, 120));
}

/* An expression tree whose nodes are evaluated through function pointers. */
enum { TREE_NODES = 2047 };

struct tree_node {
	uint64_t (*evaluate)(const struct tree_node *node);
	const struct tree_node *left, *right;
	uint64_t value;
};

static uint64_t tree_leaf(const struct tree_node *node)
{
	return node->value;
}

static uint64_t tree_add(const struct tree_node *node)
{
	return node->left->evaluate(node->left) + node->right->evaluate(node->right);
}

static uint64_t tree_xor(const struct tree_node *node)
{
	return node->left->evaluate(node->left) ^ node->right->evaluate(node->right);
}

static uint64_t tree_multiply(const struct tree_node *node)
{
	return node->left->evaluate(node->left) * (node->right->evaluate(node->right) | 1);
}

static uint64_t tree_choose(const struct tree_node *node)
{
	const struct tree_node *child = node->value & 1 ? node->left : node->right;

	return child->evaluate(child) + node->value;
}

static void *tree_setup(void)
{
	static uint64_t (*const inner[])(const struct tree_node *) = {tree_add, tree_xor, tree_multiply, tree_choose};
	struct tree_node *nodes = bench_alloc(TREE_NODES * sizeof(*nodes));
	uint64_t seed = 23;

	for (int i = 0; nodes && i < TREE_NODES; i++) {
		nodes[i].value = random_next(&seed);
		nodes[i].evaluate = tree_leaf;
		if (2 * i + 2 < TREE_NODES) {
			nodes[i].left = &nodes[2 * i + 1];
			nodes[i].right = &nodes[2 * i + 2];
			/* near the root nothing is skipped, so that the whole tree counts */
			nodes[i].evaluate = inner[(nodes[i].value >> 40) % (i < 255 ? 3 : 4)];
		}
	}
	return nodes;
}

static void tree_teardown(void *state)
{
	munmap(state, TREE_NODES * sizeof(struct tree_node));
}

static void tree_run(struct job *job)
{
	const struct tree_node *root = job->state;

	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t sum = 0;

		for (int i = 0; i < 16; i++) {
			sum = sum_mix(sum, root->evaluate(root));
			barrier();
		}
		job_sum(job, sum);
	}
}

/* Many small functions, each with several callers: more return addresses than a small predictor or table holds. */
#define LAYER(name, callee, a, b)                                                                                      \
	KEEP_CALL static uint32_t name##0(uint32_t x)                                                                  \
	{                                                                                                              \
		return callee##0(x + a) ^ callee##1(x ^ b);                                                            \
	}                                                                                                              \
	KEEP_CALL static uint32_t name##1(uint32_t x)                                                                  \
	{                                                                                                              \
		return callee##1(x * b) + callee##2(x - a);                                                            \
	}                                                                                                              \
	KEEP_CALL static uint32_t name##2(uint32_t x)                                                                  \
	{                                                                                                              \
		return callee##2(x ^ a) - callee##3(x + b);                                                            \
	}                                                                                                              \
	KEEP_CALL static uint32_t name##3(uint32_t x)                                                                  \
	{                                                                                                              \
		return callee##3(x - b) ^ callee##0(x * a);                                                            \
	}
#define LEAF(name, expression)                                                                                         \
	KEEP_CALL static uint32_t name(uint32_t x)                                                                     \
	{                                                                                                              \
		return expression;                                                                                     \
	}

/* clang-format off */
LEAF(leaf0, x * 9 + 1)
LEAF(leaf1, x >> 3 ^ x)
LEAF(leaf2, x << 5 | x >> 27)
LEAF(leaf3, x & 1 ? x + 77 : x / 3)
LAYER(layer_a, leaf, 3u, 11u)
LAYER(layer_b, layer_a, 5u, 13u)
LAYER(layer_c, layer_b, 7u, 17u)
LAYER(layer_d, layer_c, 19u, 29u)
LAYER(layer_e, layer_d, 23u, 31u)
LAYER(layer_f, layer_e, 37u, 41u)
/* clang-format on */

static void layers_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < 64; i++) {
			sum = sum_mix(sum, layer_f0(i) + layer_f1(i));
			sum = sum_mix(sum, layer_f2(i) + layer_f3(i));
		}
		job_sum(job, sum);
	}
}

/* A register machine dispatched by indirect jumps, one at the end of every instruction. */
enum opcode {
	OP_LOAD,
	OP_ADD,
	OP_SUB,
	OP_MUL3,
	OP_SHIFT,
	OP_AND,
	OP_MOVE,
	OP_BRANCH_ZERO,
	OP_BRANCH_LESS,
	OP_JUMP,
	OP_HALT
};

struct instruction {
	uint8_t op, a, b, c;
	int32_t value;
};

/* Sums the lengths of the Collatz sequences of 1 … 599. r0 number, r1 current, r2 length, r3 sum, r4 limit, r5 one. */
static const struct instruction collatz[] = {
	{OP_LOAD, 0, 0, 0, 1},         /* 0 */
	{OP_LOAD, 3, 0, 0, 0},         /* 1 */
	{OP_LOAD, 4, 0, 0, 600},       /* 2 */
	{OP_LOAD, 5, 0, 0, 1},         /* 3 */
	{OP_MOVE, 1, 0, 0, 0},         /* 4: next number */
	{OP_LOAD, 2, 0, 0, 0},         /* 5 */
	{OP_SUB, 6, 1, 5, 0},          /* 6: next step; is it 1? */
	{OP_BRANCH_ZERO, 6, 0, 0, 15}, /* 7 */
	{OP_ADD, 2, 2, 5, 0},          /* 8 */
	{OP_AND, 6, 1, 5, 0},          /* 9 */
	{OP_BRANCH_ZERO, 6, 0, 0, 13}, /* 10 */
	{OP_MUL3, 1, 1, 0, 1},         /* 11 */
	{OP_JUMP, 0, 0, 0, 6},         /* 12 */
	{OP_SHIFT, 1, 1, 0, 1},        /* 13 */
	{OP_JUMP, 0, 0, 0, 6},         /* 14 */
	{OP_ADD, 3, 3, 2, 0},          /* 15: number done */
	{OP_ADD, 0, 0, 5, 0},          /* 16 */
	{OP_BRANCH_LESS, 0, 4, 0, 4},  /* 17 */
	{OP_HALT, 3, 0, 0, 0},         /* 18 */
};

static uint64_t interpret(const struct instruction *program)
{
	static const void *const labels[] = {&&load, &&add,         &&sub,         &&mul3, &&shift, &&and,
					     &&move, &&branch_zero, &&branch_less, &&jump, &&halt};
	const struct instruction *pc = program;
	uint64_t r[8] = {0};

#define NEXT() goto *labels[pc->op]
	NEXT();
load:
	r[pc->a] = (uint64_t)pc->value;
	pc++;
	NEXT();
add:
	r[pc->a] = r[pc->b] + r[pc->c];
	pc++;
	NEXT();
sub:
	r[pc->a] = r[pc->b] - r[pc->c];
	pc++;
	NEXT();
mul3:
	r[pc->a] = r[pc->b] * 3 + (uint64_t)pc->value;
	pc++;
	NEXT();
shift:
	r[pc->a] = r[pc->b] >> pc->value;
	pc++;
	NEXT();
	and : r[pc->a] = r[pc->b] & r[pc->c];
	pc++;
	NEXT();
move:
	r[pc->a] = r[pc->b];
	pc++;
	NEXT();
branch_zero:
	pc = r[pc->a] ? pc + 1 : program + pc->value;
	NEXT();
branch_less:
	pc = r[pc->a] < r[pc->b] ? program + pc->value : pc + 1;
	NEXT();
jump:
	pc = program + pc->value;
	NEXT();
halt:
	return r[pc->a];
#undef NEXT
}

static void bytecode_run(struct job *job)
{
	for (uint64_t n = 0; n < job->iterations; n++) {
		job_sum(job, interpret(collatz));
		barrier();
	}
}

const struct row rows_call[] = {
	{"fib", "us", 1, NULL, fib_run, NULL},
	{"ackermann", "us", 1, NULL, ackermann_run, NULL},
	{"call_layers", "us", 1, NULL, layers_run, NULL},
	{"call_indirect", "us", 1, tree_setup, tree_run, tree_teardown},
	{"bytecode", "us", 1, NULL, bytecode_run, NULL},
	{0},
};
