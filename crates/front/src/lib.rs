//! The front: reads FastCGI and HTTP from strangers, queues, and hands each request to one worker.
//!
//! A process of its own, one thread, unprivileged; it knows the supervisor by the channel of [`steadfast_proto::front`]
//! only, and decides nothing about workers but who gets which request.
