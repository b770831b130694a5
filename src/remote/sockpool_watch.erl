%%% @private
%%% One process for each node whose pools are used here. It has the monitor on the server there, and ends
%%% with it; so callers watch a process of their own node. Whoever sets a monitor on a process of another
%%% node, takes it back, or sends something, waits while the connection to that node is full: here only
%%% this process does.
-module(sockpool_watch).

-export([on/1, connected/2, cancel/2]).
-export([init/1, loop/2]).

%% @doc The process that watches the server of that node, and whether this call has started it. It ends with
%% `noconnection'; with `not_found', where no server is; with `full', where that takes no more monitors; or with
%% `ended', as the server does. Or the reason is not known any more.
-spec on(node()) -> {new | old, pid()}.
on(Node) ->
    Name = name(Node),
    case whereis(Name) of
        undefined -> start(Name, Node);
        Pid -> {old, Pid}
    end.

start(Name, Node) ->
    Pid = spawn(?MODULE, init, [Node]),
    try register(Name, Pid) of
        true -> {new, Pid}
    catch
        error:badarg ->
            case whereis(Name) of
                undefined ->
                    {new, Pid}; % it has ended already
                Earlier ->
                    true = exit(Pid, kill),
                    {old, Earlier}
            end
    end.

%% @doc Waits until the connection that it watches is up, or it has ended with that: it may be about to connect, or
%% not have heard yet that its connection is gone.
-spec connected(pid(), timeout()) -> up | {down, Reason :: term()} | timeout.
connected(Watch, Timeout) ->
    Asked = sockpool_wait:asked(Watch),
    Watch ! {connected, sockpool_wait:from(Asked)},
    connected(sockpool_wait:wait_on(Asked, Timeout)).

connected({answer, up}) -> up;
connected({down, _} = Down) -> Down;
connected({silent, Asked}) ->
    case sockpool_wait:give_up(Asked) of
        {answer, up} -> up;
        given_up -> timeout
    end.

%% @doc Has the server take back what a call with this Id may have been given, or end this lease. Where its
%% node is not connected, all of that has ended.
-spec cancel(node(), reference() | sockpool_remote:lease()) -> ok.
cancel(Node, What) ->
    case erlang:send({sockpool, Node}, cancel_cast(What), [noconnect, nosuspend]) of
        nosuspend -> cancel_later(Node, What);
        _SentOrGone -> ok
    end.

cancel_later(Node, What) ->
    try on(Node) of
        {_, Watch} ->
            Watch ! {cancel, What},
            ok
    catch
        error:system_limit -> ok % the end of its client takes it back
    end.

cancel_cast(What) -> {'$gen_cast', {cancel, What}}.

%% The longest name of a node leaves no room for more.
name(Node) ->
    case atom_to_binary(Node) of
        Text when byte_size(Text) < 240 -> binary_to_atom(<<"sockpool of ", Text/binary>>);
        Text -> binary_to_atom(<<"sockpool of ", (binary:encode_hex(erlang:md5(Text)))/binary>>)
    end.

%% It outlives the application of whoever happened to start it. Asleep, it survives any upgrade.
-spec init(node()) -> no_return().
init(Node) ->
    true = group_leader(whereis(init), self()),
    Monitor = monitor(process, {sockpool, Node}),
    erlang:hibernate(?MODULE, loop, [Node, Monitor]).

-spec loop(node(), reference()) -> no_return().
loop(Node, Monitor) ->
    receive
        {'DOWN', Monitor, process, _, Reason} -> exit(ended(Reason));
        {cancel, What} ->
            _ = erlang:send({sockpool, Node}, cancel_cast(What), [noconnect]),
            erlang:hibernate(?MODULE, loop, [Node, Monitor]);
        {connected, From} ->
            ok = net_kernel:monitor_nodes(true, [{node_type, all}]),
            lists:member(Node, nodes(connected)) orelse await_up(Node, Monitor),
            ok = net_kernel:monitor_nodes(false, [{node_type, all}]),
            gen_server:reply(From, up),
            erlang:hibernate(?MODULE, loop, [Node, Monitor]);
        _Stray ->
            erlang:hibernate(?MODULE, loop, [Node, Monitor])
    end.

await_up(Node, Monitor) ->
    receive
        {nodeup, Node, _} -> ok;
        {'DOWN', Monitor, process, _, Reason} -> exit(ended(Reason))
    end.

ended(noconnection) -> noconnection;
ended(noproc) -> not_found;
ended(system_limit) -> full;
ended(_Reason) -> ended.
