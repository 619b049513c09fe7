"""Which imported symbols mean that a library waits or reads the outside world."""

import re

KINDS = {
    "clock": "clock_gettime clock_getres gettimeofday time ftime times nanosleep clock_nanosleep "
             "usleep sleep timer_create timerfd_create localtime localtime_r gmtime mktime alarm",
    "file": "open open64 openat openat64 creat read write pread pread64 pwrite pwrite64 readv writev "
            "preadv pwritev preadv2 pwritev2 close fsync fdatasync sync syncfs sync_file_range "
            "ftruncate ftruncate64 truncate unlink unlinkat rename renameat renameat2 mkdir mkdirat "
            "rmdir opendir readdir closedir stat stat64 fstat fstat64 lstat lstat64 fstatat fstatat64 "
            "statx access fopen fopen64 freopen fdopen fclose fread fwrite fgets fgetc getc fputs "
            "fputc putc puts putchar printf fprintf vprintf vfprintf __printf_chk __fprintf_chk "
            "__vfprintf_chk fflush fseek ftell getline mmap mmap64 munmap msync fcntl fcntl64 flock "
            "ioctl dup dup2 pipe pipe2 sendfile sendfile64 splice copy_file_range fallocate "
            "posix_fallocate posix_fadvise stdin stdout stderr getenv secure_getenv setenv system "
            "popen fork execve execvp dlopen io_uring_setup",
    "socket": "socket socketpair connect bind listen accept accept4 send sendto sendmsg recv recvfrom "
              "recvmsg shutdown setsockopt getsockopt getaddrinfo poll ppoll select pselect "
              "epoll_create epoll_create1 epoll_ctl epoll_wait eventfd",
    "thread": "sched_yield thrd_create sem_wait sem_post sem_init syscall",
    "random": "rand srand random srandom rand_r drand48 lrand48 getrandom getentropy arc4random "
              "arc4random_buf uuid_generate",
}
PATTERNS = {
    "clock": r"_ZNSt6chrono3_V21[0-9].*now",
    "file": r"_ZNSt10filesystem|_ZNKSt10filesystem|_ZNSt7__cxx1110filesystem|_ZNSt13basic_filebuf|"
            r"_ZNSt14basic_(if|of)stream|_ZNSt14basic_ifstream|_ZNSt14basic_ofstream|"
            r"_ZNSt13basic_fstream|_ZSt4c(out|err|log|in)$|_ZSt3cin$|_ZN3fmt2v.*vprint",
    "thread": r"pthread_(?!getspecific$).*|_ZNSt6thread|_ZNSt18condition_variable|_ZNSt11this_thread|"
              r"_ZNSt5mutex|_ZSt9call_once|_ZNSt6__detail.*wait",
    "random": r"_ZNSt13random_device",
}

# base carries the assertion that ends the process: it prints to standard error first. It also
# chooses a planted defect by the environment in the test build.
ALLOWED = {"base": {"fprintf", "__fprintf_chk", "fputs", "fputc", "fwrite", "fflush", "stderr", "getenv"}}

BY_NAME = {name: kind for kind, names in KINDS.items() for name in names.split()}


def waits(symbol, room):
    """clock, file, socket, thread or random if the symbol is one of these, else None."""
    symbol = symbol.split("@")[0]
    if symbol in ALLOWED.get(room, ()):
        return None
    if symbol in BY_NAME:
        return BY_NAME[symbol]
    for kind, pattern in PATTERNS.items():
        if re.match(pattern, symbol):
            return kind
    return None
