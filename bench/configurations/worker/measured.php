<?php
// What bench/worker measures.
switch ($_SERVER['REQUEST_URI']) {
    case '/64k':
        $body = str_repeat('x', 64 << 10);
        break;
    case '/10m':
        $body = str_repeat('x', 10 << 20);
        break;
    case '/upload':
        $input = fopen('php://input', 'rb');
        $all = 0;
        while (($piece = fread($input, 64 << 10)) !== false && $piece !== '') {
            $all += strlen($piece);
        }
        $body = "$all\n";
        break;
    default:
        $body = "Hello from steadfast, one and all\n";
}
header('Content-Type: text/plain');
header('Content-Length: ' . strlen($body));
echo $body;
