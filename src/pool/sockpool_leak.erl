%%% @private
%%% Says in the log who has a connection for longer than the pool's `leak_threshold', and where that process is now. By a
%%% process of its own: whoever is asked may be slow, and the pool's process must not wait.
-module(sockpool_leak).

-export([report/5, ended/5, client/1, holder/1, place/1]).

%% Its owner works for another process, which this names.
-define(CLIENT, '$sockpool_client').
%% To ask another node.
-define(REMOTE_MS, 500).
%% A process of a pool of nodes may work for one that works for a client.
-define(DEPTH, 3).

%% @doc Where there is no process to be had, nothing is said.
-spec report(sockpool_pool:id(), Connection :: non_neg_integer(), Owner :: pid(), HeldMs :: non_neg_integer(), Peer :: term()) -> ok.
report(Pool, Connection, Owner, HeldMs, Peer) ->
    elsewhere(fun() ->
        Holder = holder(Owner),
        Asked = asked(Holder),
        ok = told(Pool, Holder, Asked, HeldMs, Peer),
        sockpool_log:log(warning, #{event => leak, pool => Pool, owner => Holder, connection => Connection, held_ms => HeldMs,
                                    facts => facts(Holder, Asked)})
    end).

%% @doc That one has given it back, or lost it.
-spec ended(sockpool_pool:id(), Connection :: non_neg_integer(), Owner :: pid(), HeldMs :: non_neg_integer(), Peer :: term()) -> ok.
ended(Pool, Connection, Owner, HeldMs, Peer) ->
    ok = sockpool_told:unleaked(Pool, Owner, Peer, HeldMs),
    elsewhere(fun() ->
        sockpool_log:log(notice, #{event => leak_ended, pool => Pool, owner => Owner, connection => Connection, held_ms => HeldMs})
    end).

%% @doc The calling process has its connection for that one.
-spec client(pid()) -> ok.
client(Pid) ->
    _ = put(?CLIENT, Pid),
    ok.

%% @doc The process that the owner of a lease works for; mostly itself.
-spec holder(pid()) -> pid().
holder(Owner) -> holder(Owner, ?DEPTH).

elsewhere(Fun) ->
    try
        _ = spawn(Fun),
        ok
    catch
        error:system_limit -> ok
    end.

holder(Owner, 0) ->
    Owner;
holder(Owner, Depth) when node(Owner) =:= node() ->
    case process_info(Owner, dictionary) of
        {dictionary, Dictionary} ->
            case proplists:get_value(?CLIENT, Dictionary) of
                Client when is_pid(Client) -> holder(Client, Depth - 1);
                undefined -> Owner
            end;
        undefined ->
            Owner
    end;
holder(Client, _Depth) ->
    Client.

facts(Holder, Facts) when is_list(Facts) -> lists:map(fun said/1, [{label, label(Holder)} | Facts]);
facts(_Holder, undefined) -> "".

told(Pool, Holder, undefined, HeldMs, Peer) ->
    sockpool_told:leak(Pool, Holder, undefined, [], Peer, HeldMs);
told(Pool, Holder, Facts, HeldMs, Peer) ->
    Registered = case proplists:get_value(registered_name, Facts) of [] -> undefined; Name -> Name end,
    Stack = sockpool_reason:bounded(proplists:get_value(current_stacktrace, Facts)),
    sockpool_told:leak(Pool, Holder, Registered, Stack, Peer, HeldMs).

asked(Holder) ->
    Items = [registered_name, dictionary, current_stacktrace],
    try
        case node(Holder) of
            Here when Here =:= node() -> process_info(Holder, Items);
            There -> erpc:call(There, erlang, process_info, [Holder, Items], ?REMOTE_MS)
        end
    catch
        _:_ -> undefined
    end.

%% Of another node's process its name and its stack have to do.
label(Holder) when node(Holder) =:= node() ->
    case erlang:function_exported(proc_lib, get_label, 1) of
        true -> (from_otp_27()):get_label(Holder);
        false -> undefined
    end;
label(_Holder) ->
    undefined.

from_otp_27() -> proc_lib.

said({label, undefined}) -> "";
said({label, Label}) -> io_lib:format(", labelled ~0tp", [Label]);
said({registered_name, []}) -> "";
said({registered_name, Name}) -> io_lib:format(", registered as ~tp", [Name]);
said({dictionary, Dictionary}) -> [called(Key, Dictionary) || Key <- ['$callers', '$ancestors']];
said({current_stacktrace, Stack}) -> ["; it is in", [io_lib:format("~n    ~ts", [place(Frame)]) || Frame <- Stack]].

called(Key, Dictionary) ->
    case proplists:get_value(Key, Dictionary) of
        [_ | _] = Processes -> io_lib:format(", ~s ~0tp", [name(Key), Processes]);
        _ -> ""
    end.

name('$callers') -> "called by";
name('$ancestors') -> "started by".

%% @doc A frame of a stack, without arguments.
-spec place({module(), atom(), arity() | [term()], list()}) -> iolist().
place({Module, Function, Arguments, Location}) when is_list(Arguments) ->
    place({Module, Function, length(Arguments), Location});
place({Module, Function, Arity, Location}) ->
    Line = case proplists:get_value(line, Location) of undefined -> ""; Number -> [$:, integer_to_list(Number)] end,
    io_lib:format("~tp:~tp/~b~s", [Module, Function, Arity, Line]).
