%%% A server for tests, in the VM of the test: it echoes, or its connections do what they are told.
%%%
%%% A connection is named by the client's address (sockpool:sockname/1), so that a test can say what
%%% the other end of the connection it holds shall do. The command waits until the server has
%%% accepted that connection, and returns when the command is done, except for `stream', whose bytes
%%% may be more than the sockets' buffers take.
-module(sockpool_scripted_peer).

-export([start/1, stop/1, port/1, clients/1, command/3]).
-export_type([peer/0, mode/0, command/0]).

-opaque peer() :: pid().
-type mode() :: echo | silent.
%% silent: reads nothing until it is told `echo'.
-type command() :: echo | close | abort | {send, iodata()} | {stream, iodata()}.
-type listen() :: #{mode => mode(), packet => raw | 4, path => file:filename(),
                    backlog => pos_integer(), accept => boolean()}.
%% accept => false: only the system's queue takes connections, and when that is full, none.

-define(ANSWER_MS, 30000).

-spec start(listen()) -> peer().
start(Listen) ->
    {Peer, Monitor} = spawn_monitor(fun() -> init(Listen) end),
    case call(Peer, ready) of
        ok ->
            true = demonitor(Monitor, [flush]),
            Peer
    end.

%% Closes the listening socket and every connection.
-spec stop(peer()) -> ok.
stop(Peer) ->
    Monitor = monitor(process, Peer),
    Peer ! stop,
    receive {'DOWN', Monitor, process, Peer, _} -> ok end.

-spec port(peer()) -> inet:port_number().
port(Peer) ->
    call(Peer, port).

%% The addresses of the clients whose connections it has accepted and not yet seen closed.
-spec clients(peer()) -> [{inet:ip_address(), inet:port_number()}].
clients(Peer) ->
    call(Peer, clients).

-spec command(peer(), Client :: {inet:ip_address(), inet:port_number()}, command()) ->
          ok | no_connection.
command(Peer, Client, Command) ->
    Connection = call(Peer, {connection, Client}),
    try call(Connection, Command)
    catch error:{peer_gone, Connection, _} -> no_connection
    end.

call(Pid, Request) ->
    Monitor = monitor(process, Pid),
    Pid ! {Monitor, self(), Request},
    receive
        {Monitor, Answer} ->
            true = demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, process, Pid, Reason} ->
            error({peer_gone, Pid, Reason})
    after ?ANSWER_MS ->
            error({peer_silent, Pid, Request})
    end.

%%% The listening process: knows the connections by their clients' addresses.

init(Listen) ->
    process_flag(trap_exit, true),
    Mode = maps:get(mode, Listen, echo),
    {ok, Socket} = gen_tcp:listen(0, options(Listen)),
    Self = self(),
    _ = maps:get(accept, Listen, true)
        andalso spawn_link(fun() -> accept(Socket, Mode, Self) end),
    loop(#{socket => Socket, connections => #{}, waiting => []}).

options(Listen) ->
    Common = [binary, {active, false}, {reuseaddr, true}, {packet, maps:get(packet, Listen, raw)},
              {backlog, maps:get(backlog, Listen, 1024)}],
    case Listen of
        #{path := Path} -> [{ifaddr, {local, Path}} | Common];
        #{} -> [{ip, {127, 0, 0, 1}}, {nodelay, true} | Common]
    end.

accept(Socket, Mode, Peer) ->
    {ok, Accepted} = gen_tcp:accept(Socket),
    Connection = spawn(fun() -> connection(Peer, Mode) end),
    ok = gen_tcp:controlling_process(Accepted, Connection),
    Connection ! {socket, Accepted},
    case inet:peername(Accepted) of
        {ok, Client} -> Peer ! {accepted, Client, Connection};
        {error, _AlreadyGone} -> ok
    end,
    accept(Socket, Mode, Peer).

loop(#{connections := Connections, waiting := Waiting} = State) ->
    receive
        {From, Pid, ready} ->
            Pid ! {From, ok},
            loop(State);
        {From, Pid, port} ->
            {ok, Port} = inet:port(maps:get(socket, State)),
            Pid ! {From, Port},
            loop(State);
        {From, Pid, clients} ->
            Live = maps:filter(fun(_, Connection) -> is_process_alive(Connection) end, Connections),
            Pid ! {From, maps:keys(Live)},
            loop(State#{connections := Live});
        {From, Pid, {connection, Client}} ->
            loop(answer(State#{waiting := [{Client, From, Pid} | Waiting]}));
        {accepted, Client, Connection} ->
            loop(answer(State#{connections := Connections#{Client => Connection}}));
        stop ->
            exit(shutdown)
    end.

answer(#{connections := Connections, waiting := Waiting} = State) ->
    {Known, Unknown} = lists:partition(fun({Client, _, _}) -> is_map_key(Client, Connections) end,
                                       Waiting),
    _ = [Pid ! {From, maps:get(Client, Connections)} || {Client, From, Pid} <- Known],
    State#{waiting := Unknown}.

%%% One connection. It ends with its socket or with the listening process.

connection(Peer, Mode) ->
    Monitor = monitor(process, Peer),
    receive
        {socket, Socket} -> connection(Socket, Mode, Monitor);
        {'DOWN', Monitor, process, Peer, _} -> ok
    end.

connection(Socket, Mode, Monitor) ->
    case Mode of
        echo -> _ = inet:setopts(Socket, [{active, once}]);
        silent -> ok
    end,
    receive
        {tcp, Socket, Data} ->
            _ = gen_tcp:send(Socket, Data),
            connection(Socket, Mode, Monitor);
        {tcp_closed, Socket} ->
            ok;
        {tcp_error, Socket, _} ->
            ok;
        {From, Pid, Command} ->
            told(Command, Socket, fun() -> Pid ! {From, ok} end, Monitor, Mode);
        {'DOWN', Monitor, process, _, _} ->
            ok
    end.

told(echo, Socket, Done, Monitor, _Mode) ->
    Done(),
    connection(Socket, echo, Monitor);
told({send, Data}, Socket, Done, Monitor, Mode) ->
    _ = gen_tcp:send(Socket, Data),
    Done(),
    connection(Socket, Mode, Monitor);
told({stream, Data}, Socket, Done, Monitor, Mode) ->
    Done(),
    _ = gen_tcp:send(Socket, Data),
    connection(Socket, Mode, Monitor);
told(close, Socket, Done, _Monitor, _Mode) ->
    ok = gen_tcp:close(Socket),
    Done();
told(abort, Socket, Done, _Monitor, _Mode) ->
    _ = inet:setopts(Socket, [{linger, {true, 0}}]),
    ok = gen_tcp:close(Socket),
    Done().
