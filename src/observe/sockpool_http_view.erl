%%% @private
%%% What the HTTP server tells, as terms for sockpool_json: pools, connections, events, and whether pools are ready. Names,
%%% texts of errors, hosts and stacks are what somebody else has written; they are text and nothing else.
-module(sockpool_http_view).

-export([name/1, pools/1, pool/1, connections/1, events/2, ready/1]).

%% The longest leases that are told with their owners' stacks, and how much of a stack.
-define(LONGEST, 10).
-define(FRAMES, 12).
%% So many connections are told at most.
-define(CONNECTIONS, 2000).

%% @doc Never a new atom.
-spec name(binary()) -> {ok, atom()} | error.
name(Text) ->
    try binary_to_existing_atom(Text, utf8) of
        Name -> {ok, Name}
    catch
        error:_ -> error
    end.

-spec pools(Since :: non_neg_integer()) -> map().
pools(Since) ->
    ok = sockpool_sampler:look(),
    {Number, All, Rows, Count} = sockpool_sampler:rows(Since),
    #{node => node(), now => os:system_time(millisecond), number => Number, all => All, count => Count,
      verdict => verdict(sockpool_sampler:verdict()),
      rows => {list, [{raw, Row} || Row <- Rows]}}.

%% Null where that is not known yet.
verdict(not_yet) ->
    null;
verdict(Findings) ->
    {list, [#{pool => Name, severity => Severity, cause => Cause, text => {text, Text}}
            || {Name, #{severity := Severity, cause := Cause, text := Text}} <- Findings]}.

-spec pool(atom()) -> {ok, map()} | {error, not_found}.
pool(Name) ->
    case {sockpool_sampler:pool(Name), sockpool_pool:stats(Name), sockpool_pool:histograms(Name)} of
        {{ok, #{row := Row, short := Short, long := Long}}, {ok, Stats}, {ok, Histograms}} ->
            {ok, #{now => os:system_time(millisecond), row => Row,
                   counters => maps:without([name, last_error, last_error_at], counters(Stats)),
                   histograms => histograms(Histograms),
                   short => points(Short), long => points(Long)}};
        _ ->
            {error, not_found}
    end.

counters(Stats) -> maps:filter(fun(_, Value) -> is_integer(Value) orelse is_map(Value) end, Stats).

histograms(#{bounds := Bounds, connect := Connect} = Histograms) ->
    #{bounds => {list, Bounds}, wait => histogram(maps:get(wait, Histograms)), use => histogram(maps:get(use, Histograms)),
      idle => histogram(maps:get(idle, Histograms)), age => histogram(maps:get(age, Histograms)),
      connect => maps:map(fun(_, One) -> histogram(One) end, Connect)}.

histogram(#{count := Count, sum := Sum, buckets := Buckets}) -> #{count => Count, sum => Sum, buckets => {list, Buckets}}.

points(Points) -> {list, [{list, [number(Part) || Part <- tuple_to_list(Point)]} || Point <- Points]}.

number(Number) when is_float(Number) -> round(Number * 10) / 10;
number(Number) -> Number.

%% @doc With the longest leases, and where their owners are.
-spec connections(atom()) -> {ok, map()} | {error, not_found}.
connections(Name) ->
    case sockpool_connections:list(Name) of
        {ok, Connections} ->
            {ok, #{count => length(Connections), peers => {list, peers(Connections)},
                   connections => {list, [connection(One) || One <- lists:sublist(Connections, ?CONNECTIONS)]},
                   longest => {list, [longest(One) || One <- longest_of(Connections)]}}};
        {error, not_found} = Error ->
            Error
    end.

connection(#{peer := Peer, owner := Owner} = Connection) -> Connection#{peer := peer(Peer), owner := process(Owner)}.

peer(undefined) -> null;
peer(Pid) when is_pid(Pid) -> process(Pid);
peer({local, Path}) -> {text, ["unix:", Path]};
peer({Ip, Port}) when tuple_size(Ip) =:= 8 -> {text, ["[", inet:ntoa(Ip), "]:", integer_to_list(Port)]};
peer({Ip, Port}) -> {text, [inet:ntoa(Ip), ":", integer_to_list(Port)]}.

process(undefined) -> null;
process(Pid) -> {text, pid_to_list(Pid)}.

%% How many connections each address has, in which state; the one with most first.
peers(Connections) ->
    Counted = lists:foldl(fun(#{peer := Peer, state := State} = Connection, Counts) ->
                                  Key = if is_pid(Peer) -> worker; true -> Peer end,
                                  maps:update_with(Key, fun(Before) -> counted(State, Connection, Before) end,
                                                   counted(State, Connection, none()), Counts)
                          end, #{}, Connections),
    Sorted = lists:sort(fun({_, #{total := A}}, {_, #{total := B}}) -> A >= B end, maps:to_list(Counted)),
    [Counts#{peer => case Peer of worker -> {text, "workers"}; _ -> peer(Peer) end} || {Peer, Counts} <- lists:sublist(Sorted, 100)].

none() -> #{total => 0, idle => 0, leased => 0, connecting => 0, checked => 0, uses => 0, rtt_us => undefined, retransmits => 0}.

counted(State, #{uses := Uses, rtt_us := Rtt, retransmits := Retransmits}, Before) ->
    #{total := Total, State := Count, uses := UsesBefore, rtt_us := RttBefore, retransmits := Sent} = Before,
    Before#{total := Total + 1, State := Count + 1, uses := UsesBefore + Uses,
            rtt_us := if Rtt =:= undefined -> RttBefore; RttBefore =:= undefined -> Rtt; true -> max(Rtt, RttBefore) end,
            retransmits := Sent + if Retransmits =:= undefined -> 0; true -> Retransmits end}.

longest_of(Connections) ->
    Held = [{Ms, Slot, One} || #{state := leased, slot := Slot, owner := Owner, held_ms := Ms} = One <- Connections, is_pid(Owner)],
    [One || {_, _, One} <- lists:sublist(lists:reverse(lists:sort(Held)), ?LONGEST)].

longest(#{slot := Slot, held_ms := HeldMs, owner := Owner, peer := Peer}) ->
    Holder = sockpool_leak:holder(Owner),
    #{slot => Slot, held_ms => HeldMs, peer => peer(Peer), owner => process(Holder),
      name => registered(Holder), stack => {list, stack(Holder)}}.

registered(Pid) when node(Pid) =:= node() ->
    case process_info(Pid, registered_name) of
        {registered_name, Name} -> Name;
        _ -> null
    end;
registered(Pid) ->
    {text, ["on ", atom_to_binary(node(Pid), utf8)]}.

%% Of a process of another node nothing is asked: that may take long. Functions with their lines, never arguments.
stack(Pid) when node(Pid) =:= node() ->
    case process_info(Pid, current_stacktrace) of
        {current_stacktrace, Stack} -> [{text, sockpool_leak:place(Frame)} || Frame <- lists:sublist(Stack, ?FRAMES)];
        undefined -> []
    end;
stack(_Pid) ->
    [].

-spec events(Since :: non_neg_integer(), debug | info | notice | warning | error) -> map().
events(Since, Severity) ->
    ok = sockpool_sampler:look(),
    #{dropped => sockpool_events:dropped(), events => {list, [event(One) || One <- sockpool_events:recent(Since, Severity)]}}.

event(#{id := Id, at := At, severity := Severity, event := Event, measurements := Measurements, metadata := Metadata}) ->
    #{id => Id, at => At, severity => Severity,
      event => {text, lists:join(".", [atom_to_binary(Part, utf8) || Part <- Event])},
      pool => case Metadata of
                  #{pool := Pool} when is_atom(Pool) -> Pool;
                  #{pool := Text} -> {text, Text};
                  #{} -> null
              end,
      measurements => maps:map(fun value/2, Measurements), metadata => maps:map(fun value/2, maps:without([pool, node], Metadata))}.

value(error, Reason) -> {text, sockpool_error:format(Reason)};
%% Those are native; here they are microseconds.
value(Key, Time) when is_integer(Time), (Key =:= duration orelse Key =:= resolve orelse Key =:= tcp orelse Key =:= tls orelse Key =:= init
                                         orelse Key =:= held) ->
    erlang:convert_time_unit(Time, native, microsecond);
value(_Key, Number) when is_number(Number) -> Number;
value(_Key, Word) when is_atom(Word) -> Word;
value(_Key, Text) when is_binary(Text) -> {text, Text};
value(stacktrace, Stack) when is_list(Stack) ->
    {list, [case Frame of {_, _, _, _} -> {text, sockpool_leak:place(Frame)}; _ -> {text, io_lib:format("~0tP", [Frame, 20])} end
            || Frame <- lists:sublist(Stack, ?FRAMES)]};
value(peer, {Ip, Port}) when is_tuple(Ip), is_integer(Port) -> peer({Ip, Port});
value(_Key, Other) -> {text, io_lib:format("~0tP", [Other, 30])}.

%% @doc Whether each has a connection that is up, or any of them as many as that takes; without names, all of this node.
-spec ready([binary()]) -> {boolean(), map()}.
ready([]) -> ready_of([{atom_to_binary(Name, utf8), is_ready(Name)} || Name <- sockpool_pool:names()]);
ready(Texts) -> ready_of([{Text, case name(Text) of {ok, Name} -> is_ready(Name); error -> not_found end} || Text <- Texts]).

ready_of(Pools) ->
    Ready = lists:all(fun({_, Is}) -> Is =:= true end, Pools),
    {Ready, #{ready => Ready, pools => maps:from_list([{Text, case Is of true -> ready; _ -> Is end} || {Text, Is} <- Pools])}}.

is_ready(Name) ->
    case sockpool_pool:running(Name) of
        undefined -> not_found;
        Pool ->
            case sockpool_nif:pool_ready(Pool, 1) of
                ok -> true;
                {error, timeout} -> opens_when_asked(Pool) orelse not_ready;
                {error, _} -> not_ready
            end
    end.

opens_when_asked(Pool) ->
    case sockpool_pool:stats(Pool) of
        {ok, #{size := 0}} -> true;
        _ -> false
    end.
