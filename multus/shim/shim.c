/* What a container runtime starts as "multus" or "sriov": hands the call to multus-daemon and prints its answer.
 *
 * It decides nothing and reads no JSON. The call's form, and that of the answer, is told in hwmgr/frames.py; the settings
 * file beside the executable and what happens with the daemon down in docs/shim.md. twin.py and twin_down.py do the same
 * in Python, under the same tests. No library but libc, linked statically: the host may have none.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* By these words `multusctl install` knows the file again. */
__attribute__((used)) static const char MARK[] = "hwmgr-shim: put here by multusctl install";

/* As in hwmgr/frames.py. An answer's two parts have the limit of a call's input. */
#define HEADER_BYTES 16
#define LONGEST_ENVIRONMENT (8u << 20)
#define LONGEST_INPUT (16u << 20)
static const uint8_t MAGIC[5] = {0x8e, 'C', 'N', 'I', 1};

/* As in multus/version.py. */
#define CURRENT "1.1.0"
#define VERSION_ANSWER                                                                         \
    "{\"cniVersion\": \"" CURRENT "\", \"supportedVersions\": "                                \
    "[\"0.1.0\", \"0.2.0\", \"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]}"
#define ABOUT "a CNI plugin for CNI versions 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"

/* As in multus/cnitypes.py. */
enum { INVALID_ENVIRONMENT = 4, IO_FAILURE = 5, TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50 };
#define IFNAME_MAX_BYTES 15

#define LONGEST_SETTINGS (64u << 10)
#define RETRY_MS 20 /* A socket is bound before it is listened on, so no event of the folder tells when to try. */

struct settings {
    const char *path; /* of the file they come from, for messages */
    const char *socket, *thin, *spool, *version;
    int64_t connect_ms, answer_ms;
    char *text; /* what the others point into */
};

/* Who called, and all of the call that leaves this process. */
struct caller {
    const char *program;
    char **environment;
    int in, out, err;
    const char *command;
    int64_t began, deadline;
    uint8_t *call; /* header, environment, input */
    size_t used, room, environment_bytes;
};

/* How an exchange with the daemon ended. */
enum end { ANSWERED, UNREACHABLE, BROKEN, LATE, NO_ANSWER, NO_MEMORY };

struct answer {
    int status;
    size_t out_bytes, err_bytes;
    uint8_t *bytes;
};

/* The doors to the rest of the machine; the fuzzer has its own. */
static int open_daemon(const struct caller *caller, const struct settings *settings);
static int become_thin(const struct caller *caller, const struct settings *settings);
static int open_folder(const char *path);

/* ---- time, input and output -------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until fd is ready or has failed, which the next read or write then tells; false at the deadline. */
static bool wait_for(int fd, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd one = {.fd = fd, .events = events};
        int64_t left = deadline - now_ms();
        if (left < 0)
            left = 0;
        int ready = poll(&one, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return true;
        if (ready == 0 && now_ms() >= deadline)
            return false;
    }
}

static bool write_all(int fd, const void *bytes, size_t count, int64_t deadline)
{
    const uint8_t *next = bytes;
    while (count > 0) {
        ssize_t done = write(fd, next, count);
        if (done < 0 && errno == EAGAIN) {
            if (!wait_for(fd, POLLOUT, deadline))
                return false;
        } else if (done < 0 && errno != EINTR) {
            return false;
        } else if (done > 0) {
            next += done;
            count -= (size_t)done;
        }
    }
    return true;
}

/* Print an error as the specification (1.1.0, section 2, Error) wants it; returns the exit status.
 *
 * Its cniVersion is to be the configuration's, which only JSON would tell. It is the newest that we speak, as for every
 * error that multus/skel.py finds before it has read one; libcni looks at code, msg and details alone.
 */
__attribute__((format(printf, 3, 4))) static int fail(const struct caller *caller, int code, const char *format, ...)
{
    char message[2048], line[sizeof message * 6 + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    size_t used = (size_t)snprintf(line, sizeof line, "{\"cniVersion\": \"" CURRENT "\", \"code\": %d, \"msg\": \"", code);
    for (const char *next = message; *next; next++) {
        unsigned char byte = (unsigned char)*next;
        /* A path need not be text in any encoding. */
        if (byte < 0x20 || byte == '"' || byte == '\\' || byte >= 0x7f)
            used += (size_t)snprintf(line + used, sizeof line - used, "\\u%04x", byte);
        else
            line[used++] = (char)byte;
    }
    used += (size_t)snprintf(line + used, sizeof line - used, "\", \"details\": \"\"}\n");
    write_all(caller->out, line, used, caller->deadline);
    return 1;
}

/* The code of a failure that is nobody's fault but the daemon's. */
static int unavailable(const struct caller *caller)
{
    return strcmp(caller->command, "STATUS") == 0 ? NOT_AVAILABLE : TRY_AGAIN_LATER;
}

static int no_memory(const struct caller *caller)
{
    return fail(caller, unavailable(caller), "%s has no memory for this call; try again", caller->program);
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

static char *trimmed(char *text)
{
    static const char white[] = " \t\r";
    text += strspn(text, white);
    size_t length = strlen(text);
    while (length > 0 && strchr(white, text[length - 1]) != NULL)
        text[--length] = '\0';
    return text;
}

static bool milliseconds(const char *text, int64_t *value)
{
    size_t length = strlen(text);
    if (length == 0 || length > 9 || strspn(text, "0123456789") != length)
        return false;
    *value = strtol(text, NULL, 10);
    return true;
}

/* Read one line, "key=value"; returns what is wrong with it, or NULL. */
static const char *read_setting(struct settings *settings, char *line)
{
    line = trimmed(line);
    if (*line == '\0' || *line == '#')
        return NULL;
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return "it is not key=value";
    *equals = '\0';
    const char *key = trimmed(line), *value = trimmed(equals + 1);
    const char **path = strcmp(key, "socket") == 0 ? &settings->socket
                      : strcmp(key, "thin") == 0   ? &settings->thin
                      : strcmp(key, "spool") == 0  ? &settings->spool
                                                   : NULL;
    if (path != NULL) {
        if (*value != '/')
            return "the path is not absolute";
        if (strlen(value) >= (path == &settings->socket ? sizeof((struct sockaddr_un *)0)->sun_path : PATH_MAX - 16))
            return "the path is too long";
        *path = value;
    } else if (strcmp(key, "version") == 0) {
        settings->version = value;
    } else if (strcmp(key, "connect_ms") == 0) {
        return milliseconds(value, &settings->connect_ms) ? NULL : "it is no number of milliseconds";
    } else if (strcmp(key, "answer_ms") == 0) {
        return milliseconds(value, &settings->answer_ms) ? NULL : "it is no number of milliseconds";
    }
    return NULL;
}

/* Read the text of a settings file, which ends in a zero byte beyond its length; returns 0 or the number of a bad line. */
static int parse_settings(struct settings *settings, char *text, size_t length, const char **problem)
{
    char *end = text + length;
    int number = 0;
    for (char *line = text, *next; line < end; line = next) {
        char *newline = memchr(line, '\n', (size_t)(end - line));
        char *stop = newline != NULL ? newline : end;
        next = stop + 1;
        number++;
        *problem = memchr(line, '\0', (size_t)(stop - line)) != NULL ? "there is a zero byte in it" : NULL;
        *stop = '\0';
        if (*problem == NULL)
            *problem = read_setting(settings, line);
        if (*problem != NULL)
            return number;
    }
    return 0;
}

/* Read what fd has, at most room bytes; returns their number, or -1 with errno. */
static ssize_t read_whole(int fd, char *into, size_t room)
{
    size_t used = 0;
    while (used < room) {
        ssize_t done = read(fd, into + used, room - used);
        if (done == 0)
            break;
        if (done > 0)
            used += (size_t)done;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)used;
}

/* Fill the settings from their file, defaults where it is absent; returns 0, or the exit status after a failure. */
static int load_settings(const struct caller *caller, struct settings *settings)
{
    *settings = (struct settings){
        .path = settings->path,
        .socket = "/run/multus/multus.sock",
        .spool = "/var/lib/cni/sriov/spool",
        .connect_ms = -1,
        .answer_ms = 115000,
    };
    int fd = open(settings->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    ssize_t length = -1;
    if (fd >= 0) {
        settings->text = malloc(LONGEST_SETTINGS + 2);
        length = settings->text == NULL ? -1 : read_whole(fd, settings->text, LONGEST_SETTINGS + 1);
    }
    int problem = errno;
    if (fd >= 0)
        close(fd);
    const char *what = strerror(problem);
    if (length > (ssize_t)LONGEST_SETTINGS)
        what = "it is longer than 65536 bytes";
    if (length < 0 || length > (ssize_t)LONGEST_SETTINGS)
        return fail(caller, unavailable(caller), "%s cannot be read: %s; run 'multusctl install' again", settings->path, what);
    settings->text[length] = '\0';
    int line = parse_settings(settings, settings->text, (size_t)length, &what);
    if (line != 0)
        return fail(caller, unavailable(caller), "%s, line %d: %s; correct it, or run 'multusctl install' again",
                    settings->path, line, what);
    return 0;
}

/* ---- the call ---------------------------------------------------------------------------------------------------- */

static const char *variable(const struct caller *caller, const char *name)
{
    size_t length = strlen(name);
    for (char **item = caller->environment; *item != NULL; item++)
        if (strncmp(*item, name, length) == 0 && (*item)[length] == '=')
            return *item + length + 1;
    return "";
}

static bool make_room(struct caller *caller, size_t more)
{
    if (caller->room - caller->used >= more)
        return true;
    size_t room = caller->room * 2 > caller->used + more ? caller->room * 2 : caller->used + more;
    uint8_t *larger = realloc(caller->call, room);
    if (larger == NULL)
        return false;
    caller->call = larger;
    caller->room = room;
    return true;
}

static void put_number(uint8_t *at, size_t number)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(number >> (24 - 8 * i));
}

static size_t get_number(const uint8_t *at)
{
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

/* Gather header, environment and input; returns 0, or the exit status after a failure. */
static int read_call(struct caller *caller, const struct settings *settings)
{
    for (char **item = caller->environment; *item != NULL; item++)
        caller->environment_bytes += strlen(*item) + 1;
    if (caller->environment_bytes > LONGEST_ENVIRONMENT)
        return fail(caller, INVALID_ENVIRONMENT, "the environment is longer than %u bytes", LONGEST_ENVIRONMENT);
    if (!make_room(caller, HEADER_BYTES + caller->environment_bytes + 8192))
        return no_memory(caller);
    caller->used = HEADER_BYTES;
    for (char **item = caller->environment; *item != NULL; item++) {
        size_t length = strlen(*item) + 1;
        memcpy(caller->call + caller->used, *item, length);
        caller->used += length;
    }
    size_t input = 0;
    for (;;) {
        if (!make_room(caller, 4096))
            return no_memory(caller);
        if (!wait_for(caller->in, POLLIN, caller->deadline))
            return fail(caller, IO_FAILURE, "standard input did not end within %lld ms (answer_ms in %s)",
                        (long long)settings->answer_ms, settings->path);
        ssize_t done = read(caller->in, caller->call + caller->used, caller->room - caller->used);
        if (done == 0)
            break;
        if (done > 0) {
            caller->used += (size_t)done;
            input += (size_t)done;
        } else if (errno != EINTR && errno != EAGAIN) {
            return fail(caller, IO_FAILURE, "standard input cannot be read: %s", strerror(errno));
        }
        if (input > LONGEST_INPUT)
            return fail(caller, IO_FAILURE, "standard input is longer than %u bytes", LONGEST_INPUT);
    }
    memcpy(caller->call, MAGIC, sizeof MAGIC);
    caller->call[5] = strcmp(caller->program, "sriov") == 0 ? 2 : 1;
    caller->call[6] = caller->call[7] = 0;
    put_number(caller->call + 8, caller->environment_bytes);
    put_number(caller->call + 12, input);
    return 0;
}

/* ---- the daemon -------------------------------------------------------------------------------------------------- */

static enum end send_all(int fd, const uint8_t *bytes, size_t count, int64_t deadline)
{
    while (count > 0) {
        ssize_t done = send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done > 0) {
            bytes += done;
            count -= (size_t)done;
        } else if (done < 0 && errno == EAGAIN) {
            if (!wait_for(fd, POLLOUT, deadline))
                return LATE;
        } else if (done < 0 && errno != EINTR) {
            /* It may have answered before it had read everything, and that answer can still be read. */
            return BROKEN;
        }
    }
    return ANSWERED;
}

static enum end receive_all(int fd, uint8_t *into, size_t count, int64_t deadline)
{
    while (count > 0) {
        if (!wait_for(fd, POLLIN, deadline))
            return LATE;
        ssize_t done = recv(fd, into, count, MSG_DONTWAIT);
        if (done == 0 || (done < 0 && errno != EINTR && errno != EAGAIN))
            return BROKEN;
        if (done > 0) {
            into += done;
            count -= (size_t)done;
        }
    }
    return ANSWERED;
}

static enum end receive_answer(int fd, struct answer *answer, int64_t deadline)
{
    uint8_t header[HEADER_BYTES];
    enum end end = receive_all(fd, header, sizeof header, deadline);
    if (end != ANSWERED)
        return end;
    if (memcmp(header, MAGIC, sizeof MAGIC) != 0 || header[6] != 0 || header[7] != 0)
        return NO_ANSWER;
    answer->status = header[5];
    answer->out_bytes = get_number(header + 8);
    answer->err_bytes = get_number(header + 12);
    if (answer->out_bytes > LONGEST_INPUT || answer->err_bytes > LONGEST_INPUT)
        return NO_ANSWER;
    answer->bytes = malloc(answer->out_bytes + answer->err_bytes + 1);
    if (answer->bytes == NULL)
        return NO_MEMORY;
    return receive_all(fd, answer->bytes, answer->out_bytes + answer->err_bytes, deadline);
}

/* Send the call and wait for the answer; UNREACHABLE and LATE leave the reason in errno. */
static enum end ask_daemon(const struct caller *caller, const struct settings *settings, struct answer *answer)
{
    int fd = open_daemon(caller, settings);
    if (fd < 0)
        return errno == EAGAIN ? LATE : UNREACHABLE;
    enum end end = send_all(fd, caller->call, caller->used, caller->deadline);
    if (end != LATE)
        end = receive_answer(fd, answer, caller->deadline);
    close(fd);
    return end;
}

/* ---- the daemon is down ------------------------------------------------------------------------------------------ */

/* The specification's rule for container ids, as in multus/cnitypes.py. */
static bool valid_id(const char *id)
{
    static const char letters_digits[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return *id != '\0' && strchr("_.-", *id) == NULL && id[strspn(id, letters_digits)] == '\0';
}

/* dev_valid_name() in net/core/dev.c, whose isspace() takes 0xa0 for a space; no control character at all. */
static bool valid_ifname(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > IFNAME_MAX_BYTES || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (; *name != '\0'; name++) {
        unsigned char byte = (unsigned char)*name;
        if (byte <= 0x20 || byte == '/' || byte == ':' || byte == 0x7f || byte == 0xa0)
            return false;
    }
    return true;
}

/* Write the call below its name durably; returns 0 or an errno. */
static int write_spool(const struct caller *caller, int folder, const char *name)
{
    char temporary[NAME_MAX + 2];
    if ((size_t)snprintf(temporary, sizeof temporary, ".%s", name) > NAME_MAX)
        return ENAMETOOLONG;
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    errno = EIO;
    bool done = write_all(fd, caller->call, caller->used, INT64_MAX) && fsync(fd) == 0;
    int problem = errno;
    if (close(fd) != 0 && done) {
        done = false;
        problem = errno;
    }
    if (done && renameat(folder, temporary, folder, name) != 0) {
        done = false;
        problem = errno;
    }
    if (!done) {
        unlinkat(folder, temporary, 0);
        return problem;
    }
    return fsync(folder) == 0 ? 0 : errno;
}

/* Leave a DEL for whoever works next on this container; success is said only when it is on disk. */
static int spool(const struct caller *caller, const struct settings *settings, const char *why)
{
    const char *id = variable(caller, "CNI_CONTAINERID"), *ifname = variable(caller, "CNI_IFNAME");
    if (!valid_id(id))
        return fail(caller, INVALID_ENVIRONMENT,
                    "CNI_CONTAINERID \"%.300s\" may hold only letters, digits, '_', '.' and '-'", id);
    if (!valid_ifname(ifname))
        return fail(caller, INVALID_ENVIRONMENT, "CNI_IFNAME \"%.300s\" is no interface name", ifname);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char name[NAME_MAX + 1];
    int problem = ENAMETOOLONG;
    int length = snprintf(name, sizeof name, "%s.%s.%010lld%09ld.%ld", id, ifname, (long long)now.tv_sec, now.tv_nsec,
                          (long)getpid());
    if (length > 0 && (size_t)length < sizeof name) {
        int folder = open_folder(settings->spool);
        problem = folder < 0 ? errno : write_spool(caller, folder, name);
        if (folder >= 0)
            close(folder);
    }
    if (problem != 0)
        return fail(caller, TRY_AGAIN_LATER, "%s; and the DEL cannot be kept in %s: %s", why, settings->spool,
                    strerror(problem));
    char line[1024];
    int used = snprintf(line, sizeof line, "%s: %.700s; the DEL is kept in %.200s\n", caller->program, why, settings->spool);
    if (used > 0)
        write_all(caller->err, line, (size_t)used < sizeof line ? (size_t)used : sizeof line - 1, caller->deadline);
    return 0;
}

/* Nobody works on the call: it is done here, kept, or refused. */
static int daemon_down(const struct caller *caller, const struct settings *settings, const char *why)
{
    char both[1536];
    if (settings->thin != NULL) {
        int problem = become_thin(caller, settings);
        snprintf(both, sizeof both, "%.900s; and %.300s/%s cannot be started: %s", why, settings->thin, caller->program,
                 strerror(problem));
        why = both;
    }
    if (strcmp(caller->command, "VERSION") == 0)
        return write_all(caller->out, VERSION_ANSWER "\n", sizeof VERSION_ANSWER, caller->deadline) ? 0 : 1;
    if (strcmp(caller->command, "DEL") == 0)
        return spool(caller, settings, why);
    return fail(caller, unavailable(caller), "%s", why);
}

/* ---- one run ----------------------------------------------------------------------------------------------------- */

static int print_answer(const struct caller *caller, const struct answer *answer)
{
    write_all(caller->err, answer->bytes + answer->out_bytes, answer->err_bytes, caller->deadline);
    bool read = write_all(caller->out, answer->bytes, answer->out_bytes, caller->deadline);
    return read || answer->status != 0 ? answer->status : 1;
}

static int forward(struct caller *caller, const struct settings *settings)
{
    char why[1024];
    struct answer answer = {0};
    bool again = strcmp(caller->command, "DEL") == 0 || strcmp(caller->command, "VERSION") == 0;
    enum end end = ask_daemon(caller, settings, &answer);
    int problem = errno, status;
    switch (end) {
    case ANSWERED:
        status = print_answer(caller, &answer);
        break;
    case UNREACHABLE:
        snprintf(why, sizeof why, "multus-daemon cannot be reached at %s: %s; is it running? See 'systemctl status multus-daemon'",
                 settings->socket, strerror(problem));
        status = daemon_down(caller, settings, why);
        break;
    case BROKEN:
        snprintf(why, sizeof why,
                 "multus-daemon ended the connection at %s before it had answered; see 'journalctl -u multus-daemon'",
                 settings->socket);
        /* What of an ADD was done is known to nobody here: the runtime will DEL it. */
        status = again ? daemon_down(caller, settings, why) : fail(caller, unavailable(caller), "%s", why);
        break;
    case LATE:
        status = fail(caller, unavailable(caller),
                      "multus-daemon did not answer at %s within %lld ms (answer_ms in %s); see 'journalctl -u multus-daemon'",
                      settings->socket, (long long)settings->answer_ms, settings->path);
        break;
    case NO_ANSWER:
        status = fail(caller, unavailable(caller),
                      "what listens at %s does not answer as multus-daemon does; see 'ss -xlp' for who it is", settings->socket);
        break;
    default:
        status = no_memory(caller);
    }
    free(answer.bytes);
    return status;
}

/* Do one call; returns the exit status. The caller frees what is gathered in settings->text and caller->call. */
static int run(struct caller *caller, struct settings *settings)
{
    caller->command = variable(caller, "CNI_COMMAND");
    caller->began = now_ms();
    caller->deadline = caller->began + 1000;
    if (*caller->command == '\0') {
        char line[256];
        int used = snprintf(line, sizeof line, "%s, " ABOUT "\n", caller->program);
        write_all(caller->err, line, (size_t)used, caller->deadline);
        return 0;
    }
    int status = load_settings(caller, settings);
    if (status != 0)
        return status;
    caller->deadline = caller->began + settings->answer_ms;
    if (strcmp(caller->command, "VERSION") == 0) {
        if (settings->version != NULL) {
            bool read = write_all(caller->out, settings->version, strlen(settings->version), caller->deadline);
            return read && write_all(caller->out, "\n", 1, caller->deadline) ? 0 : 1;
        }
        settings->connect_ms = 0; /* What would be waited for is known here. */
    }
    if (settings->connect_ms < 0)
        settings->connect_ms = settings->thin != NULL ? 0 : 2000;
    status = read_call(caller, settings);
    return status != 0 ? status : forward(caller, settings);
}

#ifndef SHIM_FUZZ

static struct sigaction old_sigpipe;

/* Return a connection, or -1 with errno: EAGAIN at the deadline, anything else where there is no daemon. */
static int open_daemon(const struct caller *caller, const struct settings *settings)
{
    int64_t until = caller->began + settings->connect_ms;
    if (until > caller->deadline)
        until = caller->deadline;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, settings->socket); /* read_setting() has measured it */
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -1;
        /* connect(2) itself waits while the backlog is full, for as long as this; EAGAIN then. No poll(2) tells. */
        int64_t left = caller->deadline - now_ms();
        struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
        if (left <= 0)
            limit = (struct timeval){.tv_usec = 1};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        int problem = errno;
        close(fd);
        errno = problem;
        if (problem == EINTR)
            continue;
        if ((problem != ENOENT && problem != ECONNREFUSED) || now_ms() + RETRY_MS > until)
            return -1;
        nanosleep(&(struct timespec){.tv_nsec = RETRY_MS * 1000000}, NULL);
    }
}

/* Become the program that works without a daemon; returns an errno where that fails. */
static int become_thin(const struct caller *caller, const struct settings *settings)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/%s", settings->thin, caller->program);
    size_t input = HEADER_BYTES + caller->environment_bytes;
    int fd = memfd_create("stdin", MFD_CLOEXEC);
    if (fd < 0)
        return errno;
    errno = EIO;
    if (!write_all(fd, caller->call + input, caller->used - input, INT64_MAX) || lseek(fd, 0, SEEK_SET) != 0 ||
        dup2(fd, STDIN_FILENO) < 0) {
        int problem = errno;
        close(fd);
        return problem;
    }
    close(fd);
    /* What is ignored stays ignored in another program. */
    sigaction(SIGPIPE, &old_sigpipe, NULL);
    execve(path, (char *[]){path, NULL}, caller->environment);
    int problem = errno;
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    return problem;
}

/* Open a folder, and make it and those above it, 0700, where they are absent; returns -1 with errno. */
static int open_folder(const char *path)
{
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%s", path);
    for (char *slash = strchr(above + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL)
            *slash = '\0';
        if (mkdir(above, 0700) == 0) {
            char *name = strrchr(above, '/');
            char kept = name[1];
            name[1] = '\0';
            int parent = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            name[1] = kept;
            if (parent < 0)
                return -1;
            int failed = fsync(parent);
            close(parent);
            if (failed != 0)
                return -1;
        } else if (errno != EEXIST) {
            return -1;
        }
        if (slash == NULL)
            break;
        *slash = '/';
        if (slash[1] == '\0')
            break;
    }
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Write the path of the settings, beside this executable, into path. */
static void settings_path(char *path, size_t room)
{
    static const char name[] = "hwmgr-shim.conf";
    ssize_t length = readlink("/proc/self/exe", path, room - sizeof name);
    char *slash = length > 0 ? memrchr(path, '/', (size_t)length) : NULL;
    memcpy(slash != NULL ? slash + 1 : path, name, sizeof name);
}

int main(int argc, char **argv)
{
    (void)argc;
    /* A stream that is closed gets something that fails, or the next file to be opened would be taken for it. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return 1;
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, &old_sigpipe);
    char path[PATH_MAX];
    settings_path(path, sizeof path);
    const char *slash = argv[0] != NULL ? strrchr(argv[0], '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : argv[0];
    struct caller caller = {
        .program = name != NULL && strcmp(name, "sriov") == 0 ? "sriov" : "multus",
        .environment = environ,
        .in = STDIN_FILENO,
        .out = STDOUT_FILENO,
        .err = STDERR_FILENO,
    };
    struct settings settings = {.path = path};
    int status = run(&caller, &settings);
    free(caller.call);
    free(settings.text);
    return status;
}

#endif
