%%% @private
%%% The families of metrics: their names, types and labels, and where their values come from. The C node has the same
%%% ones (c_src/node/pool/sn_metrics.c), and docs/observability.md says what to make of each; tests compare the three.
-module(sockpool_metrics_table).

-export([families/1, sample_name/1, pool/3, samples/2, bounds/0]).
-export_type([family/0, names/0, pool/0, value/0]).

-type names() :: sockpool | otel.
-type type() :: gauge | counter | histogram | info.
-type family() :: #{name := binary(),             % of a counter and of info without what its samples end in
                    type := type(),
                    unit := seconds | none,
                    pool_label := binary() | none, % the label that has the pool's name; none: one of the whole node
                    labels := [binary()],         % besides that one
                    help := binary(),
                    source := source()}.
-type source() :: up | state | build
                | {count, Key :: atom()}
                | {ms, Key :: atom()}
                | {sum, [Key :: atom()]}
                | {each, [{Word :: binary(), Key :: atom()}]}
                | {by, Key :: atom()}                       % a map of words and how often
                | {outcomes, Ok :: atom(), By :: atom()}    % how often it went well, and the others by words
                | {histogram, [Key :: atom()]}
                | {histograms, Key :: atom(), [Word :: atom()]}.
%% What is known of one pool. Without `stats' its process is gone.
-type pool() :: #{label := binary(), up := boolean(), stats => sockpool_pool:stats(), histograms => sockpool_pool:histograms()}.
-type value() :: non_neg_integer() | {ms, non_neg_integer()} | sockpool_pool:histogram().

-define(STATES, [<<"open">>, <<"draining">>, <<"down">>]).
-define(PHASES, [total, resolve, tcp, tls, init]).

%% @doc In the order in which they are written.
-spec families(names()) -> [family()].
families(sockpool) -> own();
families(otel) -> otel() ++ [Family || #{name := Name} = Family <- own(), not lists:member(Name, as_otel())].

own() ->
    [node_info(<<"sockpool_build">>, [<<"version">>, <<"otp">>], <<"The version that runs.">>, build),
     gauge(<<"sockpool_up">>, <<"1 unless the last attempt to connect failed and no connection is up, or the pool does not run.">>, up),
     gauge(<<"sockpool_pool_state">>, <<"1 for the state that the pool is in.">>, <<"state">>, state),
     gauge(<<"sockpool_connections">>, <<"Connections that there are, or are being made.">>, <<"state">>,
           {each, [{<<"idle">>, idle}, {<<"leased">>, leased}, {<<"connecting">>, connecting}]}),
     gauge(<<"sockpool_connections_size">>, <<"How many connections the pool keeps: its option size.">>, {count, size}),
     gauge(<<"sockpool_connections_max">>, <<"How many there may be: size and max_overflow together.">>, {sum, [size, max_overflow]}),
     gauge(<<"sockpool_waiting">>, <<"Processes that wait for a connection.">>, {count, waiting}),
     (gauge(<<"sockpool_oldest_wait_seconds">>, <<"For how long the first of them has waited.">>, {ms, oldest_wait}))#{unit := seconds},
     counter(<<"sockpool_checkouts">>, <<"Connections handed out, those of request included.">>, {count, checkouts}),
     counter(<<"sockpool_checkins">>, <<"Connections given back by their owners.">>, {count, checkins}),
     counter(<<"sockpool_pipelined">>, <<"Requests on a connection that several may have at once.">>, {count, pipelined}),
     counter(<<"sockpool_checkout_errors">>, <<"How often somebody got an error instead of a connection.">>, <<"reason">>, {by, errors}),
     counter(<<"sockpool_waited">>, <<"Processes that had to wait for a connection.">>, {count, waited}),
     counter(<<"sockpool_reused">>, <<"Checkouts of a connection that had been used before.">>, {count, reused}),
     counter(<<"sockpool_connections_created">>, <<"Connections that became usable.">>, {count, created}),
     counter(<<"sockpool_connections_closed">>, <<"Usable connections that left the pool.">>, <<"reason">>, {by, closed_by}),
     counter(<<"sockpool_connections_deferred">>, <<"Connections kept beyond their age, since connecting failed.">>, {count, deferred}),
     counter(<<"sockpool_connect_attempts">>, <<"Attempts to connect that have ended.">>, <<"result">>,
             {outcomes, created, connect_failed_by}),
     counter(<<"sockpool_leases_abandoned">>, <<"Connections taken back: the owner died, lost the handle or held it too long.">>,
             {count, abandoned}),
     counter(<<"sockpool_leases_leaked">>, <<"Leases that were reported for being held so long.">>, {count, leaked}),
     counter(<<"sockpool_health_checks">>, <<"Checks of idle connections.">>, <<"result">>,
             {each, [{<<"ok">>, health_ok}, {<<"failed">>, health_failed}]}),
     (counter(<<"sockpool_exhausted_seconds">>, <<"Time in which somebody waited for a connection.">>, {ms, exhausted}))#{unit := seconds},
     histogram(<<"sockpool_wait_seconds">>, <<"How long those waited who got a connection, or a place on one.">>, [], {histogram, [wait]}),
     histogram(<<"sockpool_use_seconds">>, <<"How long connections were held.">>, [], {histogram, [use]}),
     histogram(<<"sockpool_connect_seconds">>, <<"How long attempts to connect that worked took, and their parts.">>, [<<"phase">>],
               {histograms, connect, ?PHASES})].

%% Names of semantic conventions that are not stable yet, as a Prometheus exporter of OpenTelemetry writes them.
otel() ->
    [Family#{pool_label := <<"db_client_connection_pool_name">>}
     || Family <- [gauge(<<"db_client_connection_count">>, <<"Connections that there are, or are being made.">>,
                         <<"db_client_connection_state">>,
                         {each, [{<<"idle">>, idle}, {<<"used">>, leased}, {<<"connecting">>, connecting}]}),
                   gauge(<<"db_client_connection_idle_max">>, <<"How many idle connections the pool keeps.">>, {count, size}),
                   gauge(<<"db_client_connection_max">>, <<"How many connections there may be.">>, {sum, [size, max_overflow]}),
                   gauge(<<"db_client_connection_pending_requests">>, <<"Processes that wait for a connection.">>, {count, waiting}),
                   counter(<<"db_client_connection_timeouts">>, <<"How often no connection came free in time.">>, {count, timeouts}),
                   histogram(<<"db_client_connection_create_time_seconds">>, <<"How long it took to make a connection.">>, [],
                             {histogram, [connect, total]}),
                   histogram(<<"db_client_connection_wait_time_seconds">>, <<"How long it took to get a connection.">>, [],
                             {histogram, [wait]}),
                   histogram(<<"db_client_connection_use_time_seconds">>, <<"How long connections were held.">>, [], {histogram, [use]})]].

%% Those of ours that are told by one of these.
as_otel() ->
    [<<"sockpool_connections">>, <<"sockpool_connections_size">>, <<"sockpool_connections_max">>, <<"sockpool_waiting">>,
     <<"sockpool_wait_seconds">>, <<"sockpool_use_seconds">>].

family(Type, Name, Help, Labels, Source) ->
    #{name => Name, type => Type, unit => none, pool_label => <<"pool">>, labels => Labels, help => Help, source => Source}.

gauge(Name, Help, Source) -> family(gauge, Name, Help, [], Source).
gauge(Name, Help, Label, Source) -> family(gauge, Name, Help, [Label], Source).
counter(Name, Help, Source) -> family(counter, Name, Help, [], Source).
counter(Name, Help, Label, Source) -> family(counter, Name, Help, [Label], Source).
histogram(Name, Help, Labels, Source) -> (family(histogram, Name, Help, Labels, Source))#{unit := seconds}.
node_info(Name, Labels, Help, Source) -> (family(info, Name, Help, Labels, Source))#{pool_label := none}.

%% @doc What its lines begin with; those of a histogram go on.
-spec sample_name(family()) -> binary().
sample_name(#{name := Name, type := counter}) -> <<Name/binary, "_total">>;
sample_name(#{name := Name, type := info}) -> <<Name/binary, "_info">>;
sample_name(#{name := Name}) -> Name.

-spec pool(Label :: binary(), sockpool_pool:id(), WithHistograms :: boolean()) -> pool().
pool(Label, Pool, WithHistograms) ->
    Gone = #{label => Label, up => false},
    case sockpool_pool:stats(Pool) of
        {ok, Stats} when WithHistograms -> histograms(Gone#{up := is_up(Pool), stats => Stats}, Pool, Gone);
        {ok, Stats} -> Gone#{up := is_up(Pool), stats => Stats};
        {error, not_found} -> Gone
    end.

histograms(Known, Pool, Gone) ->
    case sockpool_pool:histograms(Pool) of
        {ok, Histograms} -> Known#{histograms => Histograms};
        {error, not_found} -> Gone
    end.

is_up(Id) ->
    case sockpool_pool:find(Id) of
        undefined -> false;
        Pool -> not is_unavailable(sockpool_nif:pool_ready(Pool, 1))
    end.

is_unavailable({error, {unavailable, _Last}}) -> true;
is_unavailable(_Ready) -> false.

%% @doc What a family says of a pool, or of the node: values of its labels, in their order, and a value for each.
-spec samples(source(), pool() | node) -> [{[binary()], value()}].
samples(build, node) -> [{[version(), list_to_binary(erlang:system_info(otp_release))], 1}];
samples(up, #{up := Up}) -> [{[], number(Up)}];
samples(state, #{} = Pool) -> [{[State], number(State =:= state(Pool))} || State <- ?STATES];
samples({histogram, Path}, #{histograms := Histograms}) -> [{[], at(Path, Histograms)}];
samples({histograms, Key, Words}, #{histograms := Histograms}) ->
    #{Key := Of} = Histograms,
    [{[word(Word)], maps:get(Word, Of)} || Word <- Words];
samples({count, Key}, #{stats := Stats}) -> [{[], maps:get(Key, Stats)}];
samples({ms, Key}, #{stats := Stats}) -> [{[], {ms, maps:get(Key, Stats)}}];
samples({sum, Keys}, #{stats := Stats}) -> [{[], lists:sum([maps:get(Key, Stats) || Key <- Keys])}];
samples({each, Words}, #{stats := Stats}) -> [{[Word], maps:get(Key, Stats)} || {Word, Key} <- Words];
samples({by, Key}, #{stats := Stats}) -> by(Key, Stats);
samples({outcomes, Ok, By}, #{stats := Stats}) -> [{[<<"ok">>], maps:get(Ok, Stats)} | by(By, Stats)];
samples(_Source, #{}) -> [].

version() ->
    case application:get_key(sockpool, vsn) of
        {ok, Version} -> unicode:characters_to_binary(Version);
        undefined -> <<>>
    end.

by(Key, Stats) -> [{[word(Reason)], Count} || {Reason, Count} <- maps:to_list(maps:get(Key, Stats))].

state(#{stats := _}) -> <<"open">>;
state(#{}) -> <<"down">>.

at([], Histogram) -> Histogram;
at([Key | Path], Histograms) -> at(Path, maps:get(Key, Histograms)).

number(true) -> 1;
number(false) -> 0.

word(Atom) -> atom_to_binary(Atom, utf8).

%% @doc The upper bounds of the buckets that are counted, in microseconds, and as they are written, in seconds.
-spec bounds() -> [{pos_integer(), binary()}].
bounds() ->
    [{1, <<"1e-06">>}, {2, <<"2e-06">>}, {5, <<"5e-06">>}, {10, <<"1e-05">>}, {20, <<"2e-05">>}, {50, <<"5e-05">>},
     {100, <<"0.0001">>}, {200, <<"0.0002">>}, {500, <<"0.0005">>}, {1000, <<"0.001">>}, {2000, <<"0.002">>}, {5000, <<"0.005">>},
     {10000, <<"0.01">>}, {20000, <<"0.02">>}, {50000, <<"0.05">>}, {100000, <<"0.1">>}, {200000, <<"0.2">>}, {500000, <<"0.5">>},
     {1000000, <<"1.0">>}, {2000000, <<"2.0">>}, {5000000, <<"5.0">>}, {10000000, <<"10.0">>}, {20000000, <<"20.0">>},
     {50000000, <<"50.0">>}].
