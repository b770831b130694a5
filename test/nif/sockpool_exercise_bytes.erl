%%% The exercise's groups on sending and receiving.
-module(sockpool_exercise_bytes).

-export([bytes/0, packets/0, large_messages/0, send_timeouts/0, requests/0, unix_sockets/0]).
-import(sockpool_exercise_util, [with_pool/2, started/1, settled/1, waits/2, holder/1, finish/1,
                                 kill/1, hold/1, in_parallel/2, bytes/1]).

-define(PATIENCE_MS, 30000).

-spec bytes() -> ok.
bytes() ->
    with_pool(#{}, fun bytes/2).

bytes(Name, Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, Client} = sockpool:sockname(Conn),
    Tell = fun(Command) -> ok = sockpool_scripted_peer:command(Peer, Client, Command) end,
    ok = sockpool:send(Conn, ["ab", <<"cd">>, [[$e]], bytes(100)]),
    {ok, <<"abcde">>} = sockpool:recv(Conn, 5),
    {ok, <<"0123">>} = sockpool:recv(Conn, 4, 0),
    {ok, _Rest} = sockpool:recv(Conn, 0),
    {error, timeout} = sockpool:recv(Conn, 10, 0),
    Tell({send, "12345"}),
    {error, timeout} = sockpool:recv(Conn, 10, 20),
    Tell({send, "67890"}),
    {ok, <<"1234567890">>} = sockpool:recv(Conn, 10),
    {error, emsgsize} = sockpool:recv(Conn, 1 bsl 40, 0),
    Many = [<<I>> || I <- lists:seq(0, 199)],
    ok = sockpool:send(Conn, Many),
    Whole = iolist_to_binary(Many),
    {ok, Whole} = sockpool:recv(Conn, 200),
    ok = busy(Conn),
    ok = sockpool:checkin(Conn).

%% While the owner waits nobody can be the owner, so this calls the NIF itself.
busy(Conn) ->
    wait = sockpool_nif:recv(Conn, 1, again, make_ref()),
    {error, busy} = sockpool:recv(Conn, 1),
    {error, busy} = sockpool:send(Conn, "x"),
    {error, busy} = sockpool:checkin(Conn),
    {error, busy} = sockpool:discard(Conn),
    {error, busy} = sockpool:give_away(Conn, self()),
    cancelled = sockpool_nif:disarm(Conn),
    ok.

-spec packets() -> ok.
packets() ->
    [with_pool(#{packet => Packet}, fun(Name, Peer) -> packets(Packet, Name, Peer) end)
     || Packet <- [1, 2, 4, line]],
    with_pool(#{packet => fun line/1, size => 1}, fun cut/2),
    with_pool(#{packet => line, recv_limit => 1000}, fun limited/2),
    with_pool(#{packet => 4, recv_limit => 1000}, fun limited/2).

packets(Packet, Name, Peer) ->
    Messages = [<<"a\n">>, <<"0123456789\n">>, <<(binary:copy(<<"x">>, 253))/binary, "\n">>],
    {ok, Conn} = sockpool:checkout(Name),
    [begin
         ok = sockpool:send(Conn, Message),
         {ok, Message} = sockpool:recv(Conn, 0)
     end || Message <- Messages],
    Whole = framed(Packet, <<"ab\n">>),
    ok = sockpool:send(Conn, "ab\n"),
    {ok, Whole} = sockpool:recv(Conn, byte_size(Whole)),
    {ok, Client} = sockpool:sockname(Conn),
    Wire = << <<(framed(Packet, Message))/binary>> || Message <- Messages ++ Messages >>,
    [ok = sockpool_scripted_peer:command(Peer, Client, {send, <<Byte>>}) || <<Byte>> <= Wire],
    [{ok, Message} = sockpool:recv(Conn, 0) || Message <- Messages ++ Messages],
    Packet =/= 1 orelse {error, emsgsize} =:= sockpool:send(Conn, bytes(256))
        orelse error(emsgsize),
    ok = sockpool:checkin(Conn),
    [{ok, Message} = sockpool:request(Name, Message, packet, 5000) || Message <- Messages],
    {ok, Whole} = sockpool:request(Name, "ab\n", byte_size(Whole), 5000),
    ok.

%% Messages whose end a function says, of the pool and of a connection: shown in pieces, kept, refused.
cut(Name, Peer) ->
    {ok, Conn} = sockpool:checkout(Name),
    {ok, Client} = sockpool:sockname(Conn),
    Send = fun(Data) -> ok = sockpool_scripted_peer:command(Peer, Client, {send, Data}) end,
    Large = <<(bytes(200000))/binary, "\n">>,
    [Send(<<Byte>>) || Byte <- "in pieces\n"],
    {ok, <<"in pieces\n">>} = sockpool:recv(Conn, packet),
    ok = sockpool_scripted_peer:command(Peer, Client, {stream, [Large, "and\n", Large]}),
    {ok, Kept} = sockpool:recv(Conn, packet, ?PATIENCE_MS),
    {ok, <<"and\n">>} = sockpool:recv(Conn, packet),
    ok = sockpool:setopts(Conn, [{packet, fun(Bytes) when byte_size(Bytes) < 1000 -> {more, 1000}; (_) -> {done, 1000} end}]),
    {ok, <<_:1000/binary>>} = sockpool:recv(Conn, packet, ?PATIENCE_MS),
    ok = sockpool:setopts(Conn, [{packet, fun(_) -> {error, enough} end}]),
    {error, {framing, enough}} = sockpool:recv(Conn, packet, ?PATIENCE_MS),
    ok = sockpool:checkin(Conn),
    Large = Kept,
    {ok, Large} = sockpool:request(Name, Large, packet, ?PATIENCE_MS),
    ok.

line(Bytes) ->
    case binary:match(Bytes, <<"\n">>) of
        {At, 1} -> {done, At + 1};
        nomatch -> {more, unknown}
    end.

framed(line, Message) -> Message;
framed(Bytes, Message) -> <<(byte_size(Message)):Bytes/unit:8, Message/binary>>.

limited(Name, _Peer) ->
    {error, emsgsize} = sockpool:request(Name, bytes(2000), packet, 5000),
    {ok, <<"short\n">>} = sockpool:request(Name, "short\n", packet, 5000),
    ok.

%% More than the sockets' buffers take: sending and receiving go in slices and have to wait.
-spec large_messages() -> ok.
large_messages() ->
    Small = #{sndbuf => 8192, recbuf => 8192, packet => 4, peer => #{packet => 4}},
    with_pool(Small,
              fun(Name, _Peer) ->
                      Big = bytes(300000),
                      {ok, Big} = sockpool:request(Name, Big, packet, ?PATIENCE_MS),
                      in_parallel(4, fun(Index) ->
                                             Data = bytes(40000 * Index),
                                             {ok, Data} = sockpool:request(Name, [Data], packet,
                                                                           ?PATIENCE_MS)
                                     end),
                      {ok, Conn} = sockpool:checkout(Name),
                      ok = sockpool:send(Conn, [Big, Big]),
                      {ok, Both} = sockpool:recv(Conn, 0, ?PATIENCE_MS),
                      Both = <<Big/binary, Big/binary>>,
                      ok = sockpool:checkin(Conn)
              end),
    with_pool(#{recbuf => 8192, size => 1},
              fun(Name, Peer) ->
                      {ok, Conn} = sockpool:checkout(Name),
                      {ok, Client} = sockpool:sockname(Conn),
                      Big = bytes(200000),
                      Stream = {stream, [Big, Big, "end\n"]},
                      ok = sockpool_scripted_peer:command(Peer, Client, Stream),
                      {ok, Big} = sockpool:recv(Conn, byte_size(Big), ?PATIENCE_MS),
                      ok = sockpool:setopts(Conn, [{packet, line}]),
                      {ok, Line} = sockpool:recv(Conn, 0, ?PATIENCE_MS),
                      Line = <<Big/binary, "end\n">>,
                      ok = sockpool:discard(Conn)
              end).

-spec send_timeouts() -> ok.
send_timeouts() ->
    Opts = #{sndbuf => 4096, send_timeout => 20, peer => #{mode => silent}},
    with_pool(Opts, fun send_timeouts/2).

send_timeouts(Name, Peer) ->
    TooMuch = bytes(8000000),
    {ok, Conn} = sockpool:checkout(Name),
    {error, timeout} = sockpool:send(Conn, TooMuch),
    {error, timeout} = sockpool:send(Conn, TooMuch, 0),
    ok = sockpool:checkin(Conn),
    {error, timeout} = sockpool:request(Name, TooMuch, 1, 20),
    Sender = holder(fun() ->
                            {ok, C} = sockpool:checkout(Name),
                            {sockpool:send(C, TooMuch, infinity), sockpool:checkin(C)}
                    end),
    ok = waits(Sender, [await_room]),
    ok = kill(Sender),
    Self = self(),
    Closed = holder(fun() ->
                            {ok, C} = sockpool:checkout(Name),
                            {ok, Client} = sockpool:sockname(C),
                            Self ! {client, Client},
                            {sockpool:send(C, TooMuch, infinity), sockpool:checkin(C)}
                    end),
    Address = receive {client, Client} -> Client end,
    ok = waits(Closed, [await_room]),
    ok = sockpool_scripted_peer:command(Peer, Address, abort),
    {{error, Reason}, ok} = finish(Closed),
    true = lists:member(Reason, [econnreset, closed]),
    ok.

-spec requests() -> ok.
requests() ->
    with_pool(#{peer => #{mode => silent}}, fun silent_requests/2),
    with_pool(#{}, fun(Name, _Peer) ->
                           in_parallel(20, fun(Index) ->
                                                   Data = bytes(Index),
                                                   {ok, Data} =
                                                       sockpool:request(Name, Data,
                                                                        byte_size(Data),
                                                                        ?PATIENCE_MS)
                                           end)
                   end).

%% Idle, granted with the connection, and still waiting for one.
silent_requests(Name, _Peer) ->
    {error, timeout} = sockpool:request(Name, "x", 1, 0),
    {error, timeout} = sockpool:request(Name, "x", 1, 10),
    ok = settled(Name),
    Holders = [hold(Name), hold(Name)],
    {error, full} = sockpool:request(Name, "x", 1, 0),
    {error, timeout} = sockpool:request(Name, "x", 1, 10),
    Granted = [holder(fun() -> sockpool:request(Name, ["x", "y"], 1, 300) end) || _ <- [1, 2]],
    [ok = waits(Pid, [request]) || Pid <- Granted],
    [ok = kill(Pid) || Pid <- Holders],
    [{error, timeout} = finish(Pid) || Pid <- Granted],
    ok = settled(Name),
    Killed = [holder(fun() -> sockpool:request(Name, "x", 1, infinity) end) || _ <- [1, 2, 3, 4]],
    [ok = waits(Pid, [request, finish]) || Pid <- Killed],
    [ok = kill(Pid) || Pid <- Killed],
    ok.

-spec unix_sockets() -> ok.
unix_sockets() ->
    Path = filename:join(os:getenv("TMPDIR", "/tmp"), "sockpool_exercise_" ++ os:getpid()),
    Peer = sockpool_scripted_peer:start(#{path => Path}),
    Name = started(#{transport => unix, path => Path, sndbuf => 16384}),
    {ok, <<"hello">>} = sockpool:request(Name, "hello", 5, ?PATIENCE_MS),
    {ok, Conn} = sockpool:checkout(Name),
    Local = list_to_binary(Path),
    {ok, {local, Local}} = sockpool:peername(Conn),
    {ok, {local, <<>>}} = sockpool:sockname(Conn),
    {error, enoprotoopt} = sockpool:setopts(Conn, [{nodelay, true}]),
    ok = sockpool:checkin(Conn),
    ok = settled(Name),
    ok = sockpool:stop_pool(Name),
    ok = sockpool_scripted_peer:stop(Peer),
    ok = file:delete(Path).
