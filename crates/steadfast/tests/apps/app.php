<?php
// The paths of worker.c that PHP has, for php-cgi as a FastCGI worker.
$query = $_SERVER['QUERY_STRING'] ?? '';
$text = 'ok ' . getmypid() . "\n";
switch ($_SERVER['SCRIPT_NAME'] ?? '/') {
    case '/sleep': usleep((int) ((float) $query * 1e6)); break;
    case '/exit': exit((int) $query);
    case '/hang': while (true) { }
    case '/env': $text = ''; foreach (getenv() as $name => $value) { $text .= "$name=$value\n"; } break;
    case '/io': $text = file_get_contents('/proc/self/io'); break;
    case '/fatal': undefined_function(); break;
}
header('Content-Type: text/plain');
echo $text;
