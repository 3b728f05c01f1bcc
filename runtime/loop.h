/* The vCPU's loop: run guest code, see why it stopped, deliver what is pending, again. */
#ifndef AVANT_LOOP_H
#define AVANT_LOOP_H

struct vm;

void loop_run(struct vm *vm);

#endif
