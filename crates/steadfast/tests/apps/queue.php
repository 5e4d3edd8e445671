<?php
// The worker of the queue's tests, for php-cgi: queue.c says what it does. PHP writes
// heads itself and its exit ends a request only: there is no /raw and no /exit.
const BLOCK = 65536, LINE = 64;

function param(string $name): string { return $_SERVER[$name] ?? ''; }

// PHP's own $_GET decodes, the others do not.
function query(string $name): string
{
    return preg_match('/(?:^|&)' . preg_quote($name) . '=([^&]*)/', param('QUERY_STRING'), $found) ? $found[1] : '';
}

function number(string $name): int { return (int) query($name); }

function read_body(): void
{
    $length = 0;
    $crc = hash_init('crc32b');
    $body = fopen('php://input', 'rb');
    while (($block = fread($body, BLOCK)) !== false && $block !== '') {
        $length += strlen($block);
        hash_update($crc, $block);
    }
    printf("body %d %s\n", $length, hash_final($crc));
}

function say_lines(int $bytes): void
{
    $dots = str_repeat('.', LINE - 16) . "\n";
    for ($done = 0; $done < $bytes; $done += BLOCK) {
        $room = min(BLOCK, $bytes - $done);
        $block = '';
        for ($at = 0; $at < $room; $at += LINE) { $block .= sprintf('%015x%s', $done + $at, $dots); }
        echo substr($block, 0, $room);
    }
}

function die_by(int $signal): never
{
    posix_kill(getmypid(), $signal);
    while (true) { sleep(1); }
}

while (ob_get_level() > 0) { ob_end_clean(); }
if ($log = getenv('COUNT_LOG')) {
    $line = implode(' ', array_map('param', ['HTTP_X_REQUEST_ID', 'REQUEST_METHOD', 'REQUEST_URI']));
    file_put_contents($log, "$line\n", FILE_APPEND);
}
header('Content-Type: text/plain');
header('X-Worker: ' . getmypid());
[$path] = explode('?', param('REQUEST_URI'));
switch ($path) {
    case '/echo':
        foreach (['REQUEST_METHOD', 'REQUEST_URI', 'QUERY_STRING', 'CONTENT_LENGTH', 'CONTENT_TYPE', 'HTTP_X_TEST',
            'HTTP_X_REQUEST_ID', 'REMOTE_ADDR', 'HTTP_PROXY', 'HTTP_COOKIE'] as $name) {
            echo $name, '=', param($name), "\n";
        }
        read_body();
        exit;
    case '/big':
        if (number('length')) { header('Content-Length: ' . number('bytes')); }
        say_lines(number('bytes'));
        exit;
    case '/half':
        header('Content-Length: ' . number('bytes'));
        say_lines(intdiv(number('bytes'), 2));
        flush();
        die_by(SIGKILL);
    case '/header':
        $letters = str_repeat(implode('', range('a', 'z')), intdiv(number('back'), 26) + 1);
        header('X-Large: ' . substr($letters, 0, number('back')));
        printf("large %d %08x\n", strlen(param('HTTP_X_LARGE')), crc32(param('HTTP_X_LARGE')));
        exit;
    case '/early':
        say_lines(number('bytes'));
        flush();
        if (number('read')) { read_body(); }
        exit;
    case '/crash': die_by(number('signal') ?: SIGSEGV);
    case '/sleep': usleep(number('ms') * 1000); break;
    case '/leak': $GLOBALS['leak'] = str_repeat('x', number('mb') << 20); break;
    case '/stderr': error_log(query('text')); break;
    case '/hello': case '/count': break;
    default: http_response_code(404);
}
echo "hello\n";
