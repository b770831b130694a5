//// A connection in the hands of the process that checked it out, and what that process does with
//// it. Use by another process is `Error(NotOwner)`.

import sockpool/error.{type Error}
import sockpool/term.{type Term}
import sockpool/tls

/// It belongs to one process until it is checked in, discarded or given away. When that process
/// dies, the pool takes it back.
pub type Connection

pub type Timeout {
  /// Milliseconds, from 0 to 4294967295. `Ms(0)` never waits.
  Ms(Int)
  /// Waits for ever.
  Infinity
  /// What the options say: `checkout_timeout` for checkout and with_connection, `send_timeout` for
  /// send. 5 seconds for recv, request and a node's call. In an option: that option's default.
  Default
}

pub type Length {
  /// Exactly so many bytes, with a framing too: those that come next.
  Bytes(Int)
  /// The next message. Without a framing recv takes whatever there is, but at least one byte; a
  /// request cannot know where a reply ends, and is `BadArgument`.
  Next
}

/// How the stream is cut into messages. One that is longer than `recv_limit` is `MessageTooLong`, what
/// can become none is `BadFrame`.
pub type Packet {
  /// Not at all.
  Raw
  /// Each message ends with a newline, which is a part of it.
  Line
  /// A length of 1, 2 or 4 bytes, big-endian, goes before each message.
  Header1
  Header2
  Header4
  /// Each message has a header with its length in it.
  Length(LengthField)
  /// Each message ends with these bytes, 1 to 32, which are a part of it.
  Delimiter(BitArray)
  /// Each message has so many bytes.
  Fixed(Int)
  /// Each message is one value of RESP2 or RESP3, the protocol of Redis, with all that is within it.
  Resp
}

/// `offset` bytes (0 to 255), a length of `bytes` bytes (1 to 8), and behind those as many bytes as
/// it says, and `adjust` more, which is below 0 where the length counts itself or what is before it.
///
/// ```
/// // PostgreSQL: a kind, and a length that counts itself.
/// Length(LengthField(..length_field, offset: 1, adjust: -4))
/// ```
pub type LengthField {
  LengthField(
    offset: Int,
    bytes: Int,
    endian: Endian,
    adjust: Int,
    header: Header,
  )
}

/// The usual: 4 bytes, big-endian, of what follows them, and the message has them too.
pub const length_field = LengthField(0, 4, BigEndian, 0, Keep)

pub type Endian {
  BigEndian
  LittleEndian
}

/// Whether a message has its header. With `Strip` it comes without, and what is sent gets one: only
/// where the offset is 0.
pub type Header {
  Keep
  Strip
}

/// What `set` changes until check-in.
pub type Setting {
  Packet(Packet)
  Nodelay(Bool)
  Keepalive(Bool)
  /// Buffer sizes in bytes. They cannot be put back: check-in then closes the connection.
  Sndbuf(Int)
  Recbuf(Int)
}

pub type Address {
  Ip(address: String, port: Int)
  Local(path: String)
}

pub type Info {
  Info(
    pool: String,
    /// `"tcp"`, `"tls"` or `"unix"`.
    transport: String,
    age_ms: Int,
    peer: Address,
    local: Address,
    security: Security,
    packet: Packet,
    /// `Error(Nil)` of a Unix socket, and where the system does not tell: on others than Linux.
    tcp: Result(Tcp, Nil),
  )
}

/// What the system knows of a TCP connection. Times are in microseconds, but for `last_recv_ms`; `retransmits` is how often
/// what is unconfirmed was sent again, `total_retrans` how often anything was; `delivery_rate` is in bytes a second.
/// `Error(Nil)`: not measured so far.
pub type Tcp {
  Tcp(
    rtt: Int,
    rtt_var: Int,
    min_rtt: Result(Int, Nil),
    retransmits: Int,
    total_retrans: Int,
    unacked: Int,
    lost: Int,
    cwnd: Int,
    last_recv_ms: Int,
    delivery_rate: Result(Int, Nil),
  )
}

pub type Security {
  Plain
  /// `protocol` is `"tlsv1.2"` or `"tlsv1.3"`, `cipher` its name as OpenSSL has it, `alpn` the
  /// protocol agreed on or `""`, `peer_certificate` DER or empty. `resumed`: by a session of
  /// before. `ktls`: the kernel encrypts.
  Secured(
    protocol: String,
    cipher: String,
    alpn: String,
    peer_certificate: BitArray,
    resumed: Bool,
    ktls: Bool,
  )
}

/// Sends all of the data, with its header where the pool has a packet framing. After an error some
/// of it may have been sent, and the connection will be closed at check-in.
@external(erlang, "sockpool_gleam_ffi", "send")
pub fn send(
  connection: Connection,
  data: BitArray,
  timeout: Timeout,
) -> Result(Nil, Error)

/// After a timeout what had come is kept for the next recv, and the connection will be closed at
/// check-in.
@external(erlang, "sockpool_gleam_ffi", "recv")
pub fn recv(
  connection: Connection,
  length: Length,
  timeout: Timeout,
) -> Result(BitArray, Error)

/// Messages up to the first of which `is_last` says `True`, all within the timeout. After an error
/// those before it are lost, and the connection will be closed at check-in.
@external(erlang, "sockpool_gleam_ffi", "recv_until")
pub fn recv_until(
  connection: Connection,
  is_last: fn(BitArray) -> Bool,
  timeout: Timeout,
) -> Result(List(BitArray), Error)

/// Gives the connection back, at a boundary of its protocol: a reply that is still to come would
/// reach the next user. After an error of I/O, with unread bytes, or where nothing was received since the last send, it is
/// closed and replaced.
@external(erlang, "sockpool_gleam_ffi", "checkin")
pub fn checkin(connection: Connection) -> Result(Nil, Error)

/// The same, where it is known that what was sent last is not answered: the connection is kept.
@external(erlang, "sockpool_gleam_ffi", "checkin_clean")
pub fn checkin_clean(connection: Connection) -> Result(Nil, Error)

/// Gives the connection back to be closed and replaced.
@external(erlang, "sockpool_gleam_ffi", "discard")
pub fn discard(connection: Connection) -> Result(Nil, Error)

/// Makes another process of this node the owner; of a connection of another node's pool, a process of
/// any node. `process` must be a process identifier, such as a
/// `Pid` of gleam_erlang; anything else is a `BadArgument`.
@external(erlang, "sockpool_gleam_ffi", "give_away")
pub fn give_away(connection: Connection, process: pid) -> Result(Nil, Error)

/// Changes options of this connection until its check-in.
@external(erlang, "sockpool_gleam_ffi", "set")
pub fn set(
  connection: Connection,
  settings: List(Setting),
) -> Result(Nil, Error)

@external(erlang, "sockpool_gleam_ffi", "info")
pub fn info(connection: Connection) -> Result(Info, Error)

/// What `set_state` has set last, whoever had the connection then; the atom `undefined` where nothing
/// was. It goes with the connection, from owner to owner, and ends with it. Not for pools that a C node
/// serves (`BadRequest`).
@external(erlang, "sockpool_gleam_ffi", "state")
pub fn state(connection: Connection) -> Result(Term, Error)

/// Sets the state, such as which statements are prepared on this connection: in `init`, or by its
/// owner. A copy is kept, of at most 65,536 terms and bytes; else `MessageTooLong`. One whose owner dies
/// after that is closed.
@external(erlang, "sockpool_gleam_ffi", "set_state")
pub fn set_state(connection: Connection, value: a) -> Result(Nil, Error)

/// Goes on by TLS over a connection of `options.tcp`, once the server has been asked for that in the
/// clear and has agreed. The name to verify is the pool's host. In `init` it is how the connection is for
/// good; one of a process that checked it out is closed at check-in. Bytes that came before and that
/// nobody has read are `UnreadBytes`. After this or any other error but `BadOption`, `BadArgument`,
/// `NotOwner` and `Busy` nothing can be sent or received any more. `Default` is 5 seconds. Not for pools
/// that a C node serves (`BadRequest`).
@external(erlang, "sockpool_gleam_ffi", "starttls")
pub fn starttls(
  connection: Connection,
  options: tls.Options,
  timeout: Timeout,
) -> Result(Nil, Error)
