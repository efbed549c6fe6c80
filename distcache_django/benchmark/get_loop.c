/* The floor under every client: blocking GETs over one TCP connection, one request in flight.
 *
 * usage: get_loop PORT KEYS
 *
 * Fetches bench:c:000, bench:c:001, … of KEYS (at most 1000) keys in turn from 127.0.0.1. For each decimal number N read
 * from standard input, one a line, it makes N calls and writes N + 1 native 64-bit integers to standard output: the
 * nanoseconds of each call, then those of the whole loop. Ends at end of file, with status 1 on a bad reply.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEYS_MAX = 1000, BUFFER = 65536 };
static char commands[KEYS_MAX][64];
static size_t lengths[KEYS_MAX];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "get_loop: %s\n", what);
    exit(1);
}

/* Receive one bulk reply whole: "$LENGTH\r\n", LENGTH bytes, "\r\n". A missing key is a failure here. */
static void receive(int sock, char *buffer)
{
    size_t have = 0, want = 0;
    while (want == 0 || have < want) {
        ssize_t got = recv(sock, buffer + have, BUFFER - have, 0);
        if (got <= 0)
            fail("connection lost");
        have += (size_t)got;
        char *line = memchr(buffer, '\n', have);
        if (want == 0 && line != NULL) {
            long length = strtol(buffer + 1, NULL, 10);
            if (buffer[0] != '$' || length < 0 || length > BUFFER / 2)
                fail("not a value");
            want = (size_t)(line - buffer) + 1 + (size_t)length + 2;
        }
    }
}

int main(int argc, char **argv)
{
    static char buffer[BUFFER];
    char line[32];
    if (argc != 3 || atoi(argv[2]) < 1 || atoi(argv[2]) > KEYS_MAX)
        fail("usage: get_loop PORT KEYS");
    int keys = atoi(argv[2]), one = 1, next = 0;
    for (int i = 0; i < keys; i++)
        lengths[i] = (size_t)sprintf(commands[i], "*2\r\n$3\r\nGET\r\n$11\r\nbench:c:%03d\r\n", i);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot connect");
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);

    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t count = strtoul(line, NULL, 10);
        uint64_t *samples = malloc((count + 1) * sizeof *samples);
        if (samples == NULL)
            fail("out of memory");
        uint64_t start = now();
        for (size_t i = 0; i < count; i++) {
            uint64_t before = now();
            if (send(sock, commands[next], lengths[next], 0) != (ssize_t)lengths[next])
                fail("cannot send");
            receive(sock, buffer);
            samples[i] = now() - before;
            next = next + 1 == keys ? 0 : next + 1;
        }
        samples[count] = now() - start;
        fwrite(samples, sizeof *samples, count + 1, stdout);
        fflush(stdout);
        free(samples);
    }
    return 0;
}
