//! What a record is: the protocol's eleven kinds.

/// Web server: a request begins.
pub const BEGIN_REQUEST: u8 = 1;
/// Web server: the answer is no longer wanted.
pub const ABORT_REQUEST: u8 = 2;
/// Application: the answer is complete.
pub const END_REQUEST: u8 = 3;
/// Web server, stream: name-value pairs.
pub const PARAMS: u8 = 4;
/// Web server, stream: the request's body.
pub const STDIN: u8 = 5;
/// Application, stream: the answer, header and body.
pub const STDOUT: u8 = 6;
/// Application, stream: text for a log.
pub const STDERR: u8 = 7;
/// Web server, stream: a filter's file.
pub const DATA: u8 = 8;
/// Web server, management: asks for the application's variables.
pub const GET_VALUES: u8 = 9;
/// Application, management: the variables.
pub const GET_VALUES_RESULT: u8 = 10;
/// Application, management: a kind was not understood.
pub const UNKNOWN_TYPE: u8 = 11;

/// The specification's name for a kind.
#[must_use]
pub const fn name(kind: u8) -> &'static str {
    match kind {
        BEGIN_REQUEST => "BEGIN_REQUEST",
        ABORT_REQUEST => "ABORT_REQUEST",
        END_REQUEST => "END_REQUEST",
        PARAMS => "PARAMS",
        STDIN => "STDIN",
        STDOUT => "STDOUT",
        STDERR => "STDERR",
        DATA => "DATA",
        GET_VALUES => "GET_VALUES",
        GET_VALUES_RESULT => "GET_VALUES_RESULT",
        UNKNOWN_TYPE => "UNKNOWN_TYPE",
        _ => "unknown",
    }
}
