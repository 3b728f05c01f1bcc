/* 16550A serial port (National Semiconductor PC16550D data sheet) between the guest and struct console. */
#ifndef AVANT_DEV_UART_H
#define AVANT_DEV_UART_H

struct vm;
struct uart;

/* NULL: out of memory. vm->irqchip must exist; vm->console may be NULL. */
struct uart *uart_create(struct vm *vm);
void uart_destroy(struct uart *uart);

/* The console may have input, or room for output: takes what the receiver has room for. General registers only. */
void uart_poll(struct uart *uart);

#endif
