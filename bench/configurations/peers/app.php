<?php
// The application for php-fpm.
$began = hrtime(true);
if (preg_match('/delay=([0-9.]+)/', $_SERVER['QUERY_STRING'] ?? '', $found)) {
    usleep((int)($found[1] * 1e6));
}
$body = 'ok ' . getmypid() . " $began " . hrtime(true) . "\n";
header('Content-Type: text/plain');
header('Content-Length: ' . strlen($body));
echo $body;
