/* One run of the shim from bytes: see scripts/fuzz-shim, which builds this with sanitizers and says how they are cut.
 *
 * The whole of shim.c runs; only its doors are others, so that no setting leads out of here: the daemon is a pair of
 * sockets that holds the answer, the spool a folder in the current one, and nothing is started.
 */
#include "shim.c"

#include <dirent.h>

enum { PRESENT, DOWN, SILENT };

static int mood;
static const uint8_t *answer_bytes;
static size_t answer_length;
static int spool_folder = -1, nowhere = -1, silent_end = -1;
static const char settings_file[] = "hwmgr-shim.conf";

static int open_daemon(const struct caller *caller, const struct settings *settings)
{
    if (strlen(settings->socket) >= sizeof((struct sockaddr_un *)0)->sun_path)
        abort();
    int pair[2];
    if (mood == DOWN) {
        errno = ECONNREFUSED;
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    if (send(pair[1], answer_bytes, answer_length, MSG_NOSIGNAL) != (ssize_t)answer_length)
        abort();
    if (mood == SILENT) {
        /* It stays open, and the limit is now: nobody wants to wait for it. */
        ((struct caller *)caller)->deadline = now_ms();
        silent_end = pair[1];
    } else {
        close(pair[1]);
    }
    return pair[0];
}

static int become_thin(const struct caller *caller, const struct settings *settings)
{
    (void)caller;
    if (settings->thin[0] != '/' || strlen(settings->thin) >= PATH_MAX)
        abort();
    return ENOENT;
}

static int open_folder(const char *path)
{
    if (path[0] != '/')
        abort();
    return fcntl(spool_folder, F_DUPFD_CLOEXEC, 0);
}

/* What was kept has a name of the form that it is to have, and the call's bytes; then it is removed. */
static void empty_spool(const struct caller *caller)
{
    DIR *all = fdopendir(openat(spool_folder, ".", O_RDONLY | O_DIRECTORY));
    if (all == NULL)
        abort();
    for (struct dirent *one = readdir(all); one != NULL; one = readdir(all)) {
        struct stat kept;
        if (strcmp(one->d_name, ".") == 0 || strcmp(one->d_name, "..") == 0)
            continue;
        for (const char *next = one->d_name; *next != '\0'; next++)
            if ((unsigned char)*next <= 0x20)
                abort();
        if (strchr("_.-", one->d_name[0]) != NULL || fstatat(spool_folder, one->d_name, &kept, 0) != 0)
            abort();
        if ((size_t)kept.st_size != caller->used || unlinkat(spool_folder, one->d_name, 0) != 0)
            abort();
    }
    closedir(all);
}

/* The error document is one line of JSON: no byte in it that would end its string. */
static void check_output(int out)
{
    char line[16384];
    ssize_t length = pread(out, line, sizeof line, 0);
    if (length < 20 || memcmp(line, "{\"cniVersion\": \"1.1.0\", \"code\"", 30) != 0 || line[length - 1] != '\n')
        return;
    int quotes = 0;
    for (ssize_t i = 0; i < length - 1; i++) {
        if ((unsigned char)line[i] < 0x20 || (unsigned char)line[i] >= 0x7f)
            abort();
        quotes += line[i] == '"';
    }
    /* Five keys and values that are strings have two each; "code" is a number. A message has none but \u0022. */
    if (quotes != 14)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    if (mkdir("spool", 0700) != 0 && errno != EEXIST)
        abort();
    spool_folder = open("spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    return spool_folder < 0 || nowhere < 0;
}

/* Cut the next part off: its length in two bytes, then as much of it as there is. */
static size_t next_part(const uint8_t **data, size_t *size, const uint8_t **part)
{
    size_t length = 0;
    if (*size >= 2) {
        length = (size_t)(*data)[0] << 8 | (*data)[1];
        *data += 2;
        *size -= 2;
    }
    if (length > *size)
        length = *size;
    *part = *data;
    *data += length;
    *size -= length;
    return length;
}

static int in_memory(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    mood = data[0] % 3;
    bool sriov = data[0] & 0x80;
    data++;
    size--;
    const uint8_t *text, *variables;
    size_t text_length = next_part(&data, &size, &text);
    size_t variables_length = next_part(&data, &size, &variables);
    answer_length = next_part(&data, &size, &answer_bytes);

    int fd = open(settings_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, text_length) != (ssize_t)text_length)
        abort();
    close(fd);
    char *block = calloc(variables_length + 1, 1), **environment = calloc(variables_length + 2, sizeof *environment);
    if (block == NULL || environment == NULL)
        abort();
    memcpy(block, variables, variables_length);
    size_t count = 0;
    for (char *item = block; item < block + variables_length; item += strlen(item) + 1)
        environment[count++] = item;

    int out = in_memory(data, 0), in = in_memory(data, size);
    struct caller caller = {
        .program = sriov ? "sriov" : "multus", .environment = environment, .in = in, .out = out, .err = nowhere};
    struct settings settings = {.path = settings_file};
    int status = run(&caller, &settings);
    if (status < 0 || status > 255)
        abort();
    if (status == 1)
        check_output(out);
    empty_spool(&caller);
    free(caller.call);
    free(settings.text);
    free(environment);
    free(block);
    close(in);
    close(out);
    if (silent_end >= 0)
        close(silent_end);
    silent_end = -1;
    return 0;
}
