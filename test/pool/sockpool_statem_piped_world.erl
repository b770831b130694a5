%%% The world of sockpool_statem_piped: that of sockpool_statem_world, with a server that answers only when it is told to,
%%% one request at a time and in order, so that it is certain who is under way.
%%%
%%% The pool has one connection at a time, so the server's newest is the one in use.
-module(sockpool_statem_piped_world).

-export([clients/0, start/1, stop/0, difference/1]).
-export([start_pool/1, stop_pool/0, crash_pool/0, kill/1, suspend/1, resume/1]).
-export([request/3, checkout/3, checkin/2, discard/2, echo/2]).
-export([answer/0, close/0]).

-define(WORLD, sockpool_statem_world).
-define(POOL, sockpool_statem_pool).
-define(SERVER, sockpool_statem_piped_server).
-define(BASE, sockpool_statem_piped_base).
-define(PATIENCE_MS, 5000).
-define(PAYLOAD_BYTES, 8).
-define(HEADER_BYTES, 4).
-define(COUNTS, [checkouts, checkins, closed, abandoned, timeouts, pipelined]).

-type client() :: atom().
-type key() :: pos_integer().

%% Who waits for a connection or a place, who has a place, and who is suspended, whatever he has; how much each count has grown since the pool was started:
%% exactly so much, or up to so
%% much more.
-type expected() :: stopped
                  | #{leased := 0 | 1, waiting := [client()], placed := [client()], suspended := [client()],
                      counts := #{atom() => {Least :: non_neg_integer(), More :: non_neg_integer()}}}.

-spec clients() -> [client(), ...].
clients() -> ?WORLD:clients() ++ ?WORLD:more_clients().

-spec start(map()) -> ok.
start(#{packet := Packet} = Opts) ->
    ?BASE = ets:new(?BASE, [named_table, public]),
    Tester = self(),
    Pid = spawn_link(fun() -> serve(Tester, message_bytes(Packet)) end),
    true = register(?SERVER, Pid),
    ok = ?WORLD:start(with_server(Opts)),
    lists:foreach(fun ?WORLD:start_client/1, ?WORLD:more_clients()),
    true = ets:insert(?BASE, {wanted, wanted(Packet)}),
    count_from_here().

message_bytes(raw) -> ?PAYLOAD_BYTES;
message_bytes(4) -> ?HEADER_BYTES + ?PAYLOAD_BYTES.

with_server(Opts) -> Opts#{port => ask(port)}.

%% After the pool was stopped: whether anything is left of it.
-spec stop() -> passed | {left_over, [term()]}.
stop() ->
    case ?WORLD:eventually(fun() -> [{open_connections, Open} || Open <- [ask(open)], Open > 0]
                                        ++ ?WORLD:mailboxes(clients()) end) of
        [] -> ?WORLD:stop();
        Left -> {left_over, Left}
    end.

%%% Comparing the world with the model.

%% [] once the pool and the clients are as expected, or in what they still differ after a while. Who has a place sleeps then.
-spec difference(expected()) -> [term()].
difference(stopped) ->
    ?WORLD:difference(stopped);
difference(#{waiting := Waiting, placed := Placed, suspended := Suspended, counts := Counts} = Expected) ->
    ?WORLD:eventually(fun() ->
                              ?WORLD:pool_difference(maps:with([leased, waiting], Expected)) ++ miscounted(Counts)
                                  ++ ?WORLD:waits((Waiting ++ Placed) -- Suspended)
                                  ++ ?WORLD:mailboxes(clients() -- (Waiting ++ Placed ++ Suspended)) ++ ?WORLD:own_mailbox()
                      end).

miscounted(Counts) ->
    Stats = stats(),
    [{count, Name, Since, instead_of, Least, More}
     || Name <- ?COUNTS,
        {Since, {Least, More}} <- [{maps:get(Name, Stats) - ets:lookup_element(?BASE, Name, 2), maps:get(Name, Counts)}],
        Since < Least orelse Since > Least + More].

stats() ->
    {ok, Stats} = sockpool:stats(?POOL),
    Stats.

%% A pool's counts go on after a crash.
count_from_here() ->
    true = ets:insert(?BASE, maps:to_list(maps:with(?COUNTS, stats()))),
    ok.

%%% Commands.

-spec start_pool(map()) -> ok.
start_pool(Opts) ->
    ok = ?WORLD:start_pool(with_server(Opts)),
    count_from_here().

-spec stop_pool() -> ok | {error, term()}.
stop_pool() -> ?WORLD:stop_pool().

-spec crash_pool() -> ok.
crash_pool() ->
    ok = ?WORLD:crash_pool(),
    count_from_here().

-spec kill(client()) -> ok.
kill(Client) -> ?WORLD:kill(Client).

%% Whatever comes for it, it does nothing.
-spec suspend(client()) -> ok.
suspend(Client) ->
    true = erlang:suspend_process(whereis(Client)),
    ok.

-spec resume(client()) -> ok.
resume(Client) ->
    true = erlang:resume_process(whereis(Client)),
    ok.

%% The reply has to be that to this very request.
-spec request(client(), key(), timeout()) -> started.
request(Client, Key, Timeout) ->
    Data = payload(),
    ?WORLD:begin_to(Client, Key,
                    fun() ->
                            case sockpool:request(?POOL, Data, wanted(), Timeout) of
                                {ok, Data} -> echoed;
                                Other -> Other
                            end
                    end).

payload() -> <<(erlang:unique_integer([positive])):(8 * ?PAYLOAD_BYTES)>>.

wanted() -> ets:lookup_element(?BASE, wanted, 2).

wanted(raw) -> ?PAYLOAD_BYTES;
wanted(4) -> packet.

-spec checkout(client(), key(), timeout()) -> started.
checkout(Client, Key, Timeout) -> ?WORLD:checkout(Client, Key, Timeout).

-spec checkin(client(), key()) -> ok | {error, term()}.
checkin(Client, Key) -> ?WORLD:checkin(Client, Key).

-spec discard(client(), key()) -> ok | {error, term()}.
discard(Client, Key) -> ?WORLD:discard(Client, Key).

%% On a lease. What is read is what this one has sent, and not a reply of those before.
-spec echo(client(), key()) -> echoed | {ok, binary()} | {error, term()}.
echo(Client, Key) ->
    Data = payload(),
    ?WORLD:run(Client, fun() -> exchange(?WORLD:handle(Key), Data) end).

exchange(Conn, Data) ->
    case sockpool:send(Conn, Data) of
        ok ->
            _ = ask(answer),
            case sockpool:recv(Conn, wanted(), ?PATIENCE_MS) of
                {ok, Data} -> echoed;
                Other -> Other
            end;
        Error ->
            Error
    end.

%% The oldest request gets its reply.
-spec answer() -> ok | {error, term()}.
answer() -> ask(answer).

%% The server closes the connection, with what has come on it unread.
-spec close() -> ok.
close() -> ask(close).

%%% The server.

ask(What) ->
    Ref = make_ref(),
    ?SERVER ! {What, Ref, self()},
    receive {Ref, Answer} -> Answer after 2 * ?PATIENCE_MS -> {error, server_is_silent} end.

serve(Tester, Bytes) ->
    Monitor = monitor(process, Tester),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {nodelay, true}, {backlog, 64}]),
    serve(Monitor, Listener, Bytes, []).

%% The newest first; without those that it has closed.
serve(Monitor, Listener, Bytes, Before) ->
    receive
        {'DOWN', Monitor, _, _, _} ->
            ok;
        {What, Ref, From} ->
            Sockets = accepted(Listener, Before),
            {Answer, Left} = do(What, Listener, Bytes, Sockets),
            From ! {Ref, Answer},
            serve(Monitor, Listener, Bytes, Left)
    end.

accepted(Listener, Sockets) ->
    case gen_tcp:accept(Listener, 0) of
        {ok, Socket} -> accepted(Listener, [Socket | Sockets]);
        {error, timeout} -> Sockets
    end.

do(port, Listener, _Bytes, Sockets) ->
    {ok, Port} = inet:port(Listener),
    {Port, Sockets};
do(answer, _Listener, Bytes, [Newest | _] = Sockets) ->
    case gen_tcp:recv(Newest, Bytes, ?PATIENCE_MS) of
        {ok, Request} -> {gen_tcp:send(Newest, Request), Sockets};
        {error, _} = Error -> {Error, Sockets}
    end;
do(answer, _Listener, _Bytes, []) ->
    {{error, no_connection}, []};
do(close, _Listener, _Bytes, [Newest | Older]) ->
    {gen_tcp:close(Newest), Older};
do(open, _Listener, _Bytes, Sockets) ->
    Open = [Socket || Socket <- Sockets, is_open(Socket)],
    {length(Open), Open}.

is_open(Socket) ->
    case gen_tcp:recv(Socket, 0, 0) of
        {ok, _Unread} -> is_open(Socket);
        {error, timeout} -> true;
        {error, _} -> gen_tcp:close(Socket), false
    end.
