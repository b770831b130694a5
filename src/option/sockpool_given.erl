%%% @private
%%% Options as users give them: a map, or a list of `{Key, Value}' such as a keyword list of Elixir. `nil' is
%%% Elixir's word for what is not given.
-module(sockpool_given).

-export([map/2, shown/3]).
-export_type([options/0]).

-type ms() :: 0..4294967295.
-type mfargs() :: {module(), Function :: atom(), ExtraArgs :: [term()]}.
-type host() :: inet:ip_address() | string() | binary() | atom().
%% Every option may be `nil', too; those with `undefined' have no default.
-type options() :: #{name => atom(),
                     transport => tcp | tls | unix | node | nil,
                     host => host() | [host(), ...] | undefined | nil,
                     port => inet:port_number() | undefined | nil,
                     path => string() | binary() | undefined | nil,
                     size => non_neg_integer() | nil,
                     max_overflow => non_neg_integer() | nil,
                     overflow_ttl => ms() | infinity | nil,
                     strategy => lifo | fifo | nil,
                     max_waiting => non_neg_integer() | infinity | nil,
                     checkout_timeout => ms() | infinity | nil,
                     connect_timeout => ms() | nil,
                     send_timeout => ms() | infinity | nil,
                     packet => raw | 0 | 1 | 2 | 4 | line | nil,
                     nodelay => boolean() | nil,
                     keepalive => boolean() | nil,
                     sndbuf => pos_integer() | undefined | nil,
                     recbuf => pos_integer() | undefined | nil,
                     bind => inet:ip_address() | undefined | nil,
                     init => fun((sockpool:conn()) -> ok | {error, term()}) | mfargs() | undefined | nil,
                     validate => always | {'after', ms()} | never | nil,
                     max_hold => ms() | infinity | nil,
                     recv_limit => pos_integer() | nil,
                     backoff => {ms(), ms()} | nil,
                     tls => tls() | undefined | nil,
                     node => node() | undefined | nil,
                     cookie => atom() | binary() | fun(() -> atom() | binary()) | mfargs() | undefined | nil,
                     max_inflight => pos_integer() | undefined | nil}
                 | [{atom(), term()}].

-type text() :: string() | binary().
-type tls() :: #{verify => peer | none | nil,
                 cacertfile => text() | undefined | nil,
                 cacerts => [binary() | tuple(), ...] | undefined | nil,
                 server_name => text() | undefined | nil,
                 certfile => text() | undefined | nil,
                 keyfile => text() | undefined | nil,
                 password => fun(() -> iodata()) | mfargs() | undefined | nil,
                 versions => ['tlsv1.2' | 'tlsv1.3', ...] | nil,
                 ciphers => text() | undefined | nil,
                 ciphersuites => text() | undefined | nil,
                 groups => text() | undefined | nil,
                 alpn => [text()] | nil,
                 session_reuse => boolean() | nil,
                 keylog => text() | undefined | nil,
                 ktls => boolean() | nil}
             | [{atom(), term()}].

%% @doc The options as a map, of two with the same key the first one. A known one that is `nil' is not in it.
-spec map(term(), Known :: [atom()]) -> {ok, map()} | error.
map(Opts, Known) when is_map(Opts) ->
    {ok, maps:filter(fun(Key, Value) -> Value =/= nil orelse not lists:member(Key, Known) end, Opts)};
map(Opts, Known) when is_list(Opts), length(Opts) >= 0 ->
    case lists:all(fun(Opt) -> is_tuple(Opt) andalso tuple_size(Opt) =:= 2 end, Opts) of
        true -> map(maps:from_list(lists:reverse(Opts)), Known);
        false -> error
    end;
map(_Opts, _Known) ->
    error.

%% @doc For an error or a log: what a key that is not known was given may be a password.
-spec shown(term(), term(), Known :: [atom()]) -> term().
shown(Key, Value, Known) ->
    case lists:member(Key, Known) of true -> Value; false -> not_shown end.
