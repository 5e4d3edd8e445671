<?php
// The hello that is measured.
$body = "Hello from steadfast, one and all\n";
header('Content-Type: text/plain');
header('Content-Length: ' . strlen($body));
echo $body;
