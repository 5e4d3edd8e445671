<?php
header('Content-Type: text/plain');
echo 'PHP ' . PHP_VERSION . ', process ' . getmypid() . "\n";
