/* Descriptors of processes that are forked off. */
#ifndef AVANT_TOOLS_DESCRIPTORS_H
#define AVANT_TOOLS_DESCRIPTORS_H

/*
 * Closes all descriptors but 0, 1, 2 and `fd`, so that nobody waits for the end of something that this process has no
 * use for. What `fd` was is returned under its new number.
 */
int descriptors_keep(int fd);

#endif
