%%% The other side of a pool of nodes, without a node: takes distribution connections at a port of
%%% 127.0.0.1 as fake@127.0.0.1 and runs what it is asked to run in this VM. It can also say what no node
%%% would. Needs no epmd and no distribution.
-module(sockpool_fake_node).

-export([start/0, stop/1, opts/1, say/2, hush/1, stop_reading/1]).
-export_type([peer/0]).

-opaque peer() :: {pid(), inet:port_number()}.

-define(COOKIE, "fake_cookie").
-define(NAME, "fake@127.0.0.1").
%% Those of OTP 25.
-define(FLAGS, 16#d07df7fbd).
-define(CHALLENGE, 4000000000).
-define(SPAWN_REQUEST, 29).
-define(MONITOR_P_EXIT, 21).
-define(REG_SEND, 6).

-spec start() -> peer().
start() ->
    Self = self(),
    Pid = spawn(fun() ->
                        {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {packet, 2}, {backlog, 100},
                                                          {ip, {127, 0, 0, 1}}, {nodelay, true}]),
                        {ok, Port} = inet:port(Listen),
                        Self ! {self(), Port},
                        Owner = self(),
                        _ = spawn_link(fun() -> accept(Owner, Listen) end),
                        serve([], false)
                end),
    receive {Pid, Port} -> {Pid, Port} end.

-spec stop(peer()) -> ok.
stop({Pid, _Port}) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% @doc Of a pool of it.
-spec opts(peer()) -> map().
opts({_Pid, Port}) ->
    #{transport => node, node => list_to_atom(?NAME), port => Port, cookie => list_to_binary(?COOKIE)}.

%% @doc Sends these bytes, a frame without its length, on every connection that is up; the empty frame is
%% a tick. Returns how many those were.
-spec say(peer(), iodata()) -> non_neg_integer().
say({Pid, _Port}, Frame) ->
    Pid ! {say, self(), Frame},
    receive {Pid, said, Count} -> Count end.

%% @doc From now on connections are accepted, and nothing is said to them.
-spec hush(peer()) -> ok.
hush({Pid, _Port}) ->
    Pid ! hush,
    ok.

%% @doc What is up reads nothing from now on.
-spec stop_reading(peer()) -> ok.
stop_reading({Pid, _Port}) ->
    Pid ! {stop_reading, self()},
    receive {Pid, stopped_reading} -> ok end.

serve(Connections, Silent) ->
    receive
        {connected, Pid} ->
            _ = monitor(process, Pid),
            Pid ! {silent, Silent},
            serve([Pid | Connections], Silent);
        {'DOWN', _, process, Pid, _} ->
            serve(lists:delete(Pid, Connections), Silent);
        {say, From, Frame} ->
            lists:foreach(fun(Pid) -> Pid ! {say, Frame} end, Connections),
            From ! {self(), said, length(Connections)},
            serve(Connections, Silent);
        {stop_reading, From} ->
            [begin
                 Pid ! {stop_reading, self()},
                 receive {Pid, stopped_reading} -> ok end
             end || Pid <- Connections],
            From ! {self(), stopped_reading},
            serve(Connections, Silent);
        hush ->
            serve(Connections, true)
    end.

accept(Owner, Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    Pid = spawn_link(fun() -> receive go -> connected(Owner, Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Owner, Listen).

connected(Owner, Socket) ->
    Owner ! {connected, self()},
    receive
        {silent, true} -> receive after infinity -> ok end;
        {silent, false} -> shake(Socket)
    end.

shake(Socket) ->
    maybe_shaken(gen_tcp:recv(Socket, 0), Socket).

maybe_shaken({ok, <<"N", _Flags:64, _Creation:32, Len:16, Host:Len/binary>>}, Socket) ->
    Name = <<(integer_to_binary(erlang:unique_integer([positive]), 36))/binary, "@", Host/binary>>,
    ok = gen_tcp:send(Socket, <<"snamed:", (byte_size(Name)):16, Name/binary, 7:32>>),
    ok = gen_tcp:send(Socket, <<"N", ?FLAGS:64, ?CHALLENGE:32, 1:32, (length(?NAME)):16, ?NAME>>),
    proven(gen_tcp:recv(Socket, 0), Socket);
maybe_shaken(_Other, Socket) ->
    gen_tcp:close(Socket).

proven({ok, <<"r", Challenge:32, Digest:16/binary>>}, Socket) ->
    case digest(?CHALLENGE) of
        Digest ->
            ok = gen_tcp:send(Socket, [$a, digest(Challenge)]),
            ok = inet:setopts(Socket, [{packet, 4}, {active, true}]),
            loop(Socket);
        _ ->
            gen_tcp:close(Socket)
    end;
proven(_Other, Socket) ->
    gen_tcp:close(Socket).

digest(Challenge) -> erlang:md5([?COOKIE | integer_to_list(Challenge)]).

loop(Socket) ->
    receive
        {tcp, Socket, Frame} ->
            heard(Frame),
            loop(Socket);
        {say, Frame} ->
            _ = gen_tcp:send(Socket, Frame),
            loop(Socket);
        {stop_reading, From} ->
            ok = inet:setopts(Socket, [{active, false}]),
            From ! {self(), stopped_reading},
            receive after infinity -> ok end;
        {tcp_closed, Socket} ->
            ok
    end.

heard(<<112, Terms/binary>>) ->
    {Control, Used} = binary_to_term(Terms, [used]),
    case Terms of
        <<_:Used/binary>> -> ok; % an answer to what it was asked
        <<_:Used/binary, Payload/binary>> -> heard(Control, binary_to_term(Payload))
    end;
heard(<<>>) ->
    ok.

heard({?SPAWN_REQUEST, Ref, From, _Leader, {erpc, execute_call, 4}, [monitor]}, Args) ->
    Connection = self(),
    _ = spawn(fun() ->
                      {Pid, Monitor} = spawn_monitor(erpc, execute_call, Args),
                      receive
                          {'DOWN', Monitor, process, Pid, Reason} ->
                              Control = {?MONITOR_P_EXIT, Pid, From, Ref, Reason},
                              Connection ! {say, [112, term_to_binary(Control)]}
                      end
              end),
    ok;
heard({?REG_SEND, _From, '', Name}, Message) ->
    catch Name ! Message.
