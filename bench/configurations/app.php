<?php
// Answers; or dies by SIGSEGV on its first request, where a file named `crash` lies beside it.
if (file_exists(__DIR__ . '/crash')) {
    posix_kill(posix_getpid(), 11 /* SIGSEGV; the name is in pcntl, which FPM does not load */);
}
header('Content-Type: text/plain');
echo 'ok ', getmypid(), "\n";
