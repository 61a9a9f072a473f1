//! The shop's words: departments, categories, nouns, styles, brands, in English and Chinese.

/// A word in both languages.
pub(super) type Word = [&'static str; 2];

/// One category at the bottom of the tree.
pub(super) struct LeafWords {
    pub(super) name: Word,
    /// What its items are called.
    pub(super) nouns: [Word; 3],
    /// Median price.
    pub(super) price: f64,
    /// Days until an item is used up and bought again; 0: it lasts.
    pub(super) lasts_days: f64,
}

/// One department; neighbouring categories go with each other.
pub(super) struct Department {
    pub(super) name: Word,
    pub(super) leaves: [LeafWords; 5],
}

const fn leaf(name: Word, nouns: [Word; 3], price: f64, lasts_days: f64) -> LeafWords {
    LeafWords {
        name,
        nouns,
        price,
        lasts_days,
    }
}

pub(super) const DEPARTMENTS: &[Department] = &[
    Department {
        name: ["Kitchen", "厨房"],
        leaves: [
            leaf(
                ["Coffee", "咖啡"],
                [
                    ["coffee beans", "咖啡豆"],
                    ["ground coffee", "咖啡粉"],
                    ["espresso capsules", "咖啡胶囊"],
                ],
                12.0,
                14.0,
            ),
            leaf(
                ["Mugs", "杯子"],
                [
                    ["mug", "马克杯"],
                    ["espresso cup", "浓缩咖啡杯"],
                    ["travel mug", "随行杯"],
                ],
                11.0,
                0.0,
            ),
            leaf(
                ["Coffee makers", "咖啡器具"],
                [
                    ["moka pot", "摩卡壶"],
                    ["French press", "法压壶"],
                    ["coffee grinder", "磨豆机"],
                ],
                45.0,
                0.0,
            ),
            leaf(
                ["Pans", "锅具"],
                [
                    ["frying pan", "平底锅"],
                    ["saucepan", "奶锅"],
                    ["wok", "炒锅"],
                ],
                38.0,
                0.0,
            ),
            leaf(
                ["Knives", "刀具"],
                [
                    ["chef knife", "主厨刀"],
                    ["bread knife", "面包刀"],
                    ["paring knife", "水果刀"],
                ],
                32.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Beauty", "美妆"],
        leaves: [
            leaf(
                ["Face care", "面部护理"],
                [
                    ["face cream", "面霜"],
                    ["serum", "精华液"],
                    ["cleanser", "洁面乳"],
                ],
                18.0,
                28.0,
            ),
            leaf(
                ["Make-up", "彩妆"],
                [
                    ["lipstick", "口红"],
                    ["mascara", "睫毛膏"],
                    ["foundation", "粉底液"],
                ],
                16.0,
                0.0,
            ),
            leaf(
                ["Hair care", "护发"],
                [
                    ["shampoo", "洗发水"],
                    ["conditioner", "护发素"],
                    ["hair mask", "发膜"],
                ],
                9.0,
                21.0,
            ),
            leaf(
                ["Hair tools", "美发工具"],
                [
                    ["hair dryer", "吹风机"],
                    ["hair brush", "发梳"],
                    ["curling iron", "卷发棒"],
                ],
                35.0,
                0.0,
            ),
            leaf(
                ["Fragrance", "香水"],
                [
                    ["perfume", "香水"],
                    ["body mist", "身体喷雾"],
                    ["cologne", "古龙水"],
                ],
                42.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Clothing", "服装"],
        leaves: [
            leaf(
                ["T-shirts", "T恤"],
                [
                    ["T-shirt", "T恤"],
                    ["tank top", "背心"],
                    ["polo shirt", "Polo衫"],
                ],
                17.0,
                0.0,
            ),
            leaf(
                ["Jeans", "牛仔裤"],
                [
                    ["jeans", "牛仔裤"],
                    ["denim shorts", "牛仔短裤"],
                    ["denim skirt", "牛仔裙"],
                ],
                48.0,
                0.0,
            ),
            leaf(
                ["Shoes", "鞋"],
                [
                    ["sneakers", "运动鞋"],
                    ["boots", "靴子"],
                    ["sandals", "凉鞋"],
                ],
                62.0,
                0.0,
            ),
            leaf(
                ["Socks", "袜子"],
                [
                    ["ankle socks", "短袜"],
                    ["knee socks", "长袜"],
                    ["wool socks", "羊毛袜"],
                ],
                8.0,
                0.0,
            ),
            leaf(
                ["Jackets", "外套"],
                [
                    ["rain jacket", "雨衣"],
                    ["down jacket", "羽绒服"],
                    ["blazer", "西装外套"],
                ],
                95.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Electronics", "数码"],
        leaves: [
            leaf(
                ["Phones", "手机"],
                [
                    ["smartphone", "智能手机"],
                    ["folding phone", "折叠手机"],
                    ["senior phone", "老人手机"],
                ],
                420.0,
                0.0,
            ),
            leaf(
                ["Phone cases", "手机壳"],
                [
                    ["phone case", "手机壳"],
                    ["screen protector", "钢化膜"],
                    ["phone stand", "手机支架"],
                ],
                13.0,
                0.0,
            ),
            leaf(
                ["Chargers", "充电器"],
                [
                    ["charger", "充电器"],
                    ["charging cable", "数据线"],
                    ["power bank", "充电宝"],
                ],
                22.0,
                0.0,
            ),
            leaf(
                ["Headphones", "耳机"],
                [
                    ["headphones", "头戴耳机"],
                    ["earbuds", "无线耳机"],
                    ["gaming headset", "电竞耳机"],
                ],
                75.0,
                0.0,
            ),
            leaf(
                ["Speakers", "音箱"],
                [
                    ["Bluetooth speaker", "蓝牙音箱"],
                    ["soundbar", "回音壁"],
                    ["desktop speaker", "桌面音箱"],
                ],
                88.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Pets", "宠物"],
        leaves: [
            leaf(
                ["Cat food", "猫粮"],
                [
                    ["dry cat food", "猫干粮"],
                    ["wet cat food", "猫罐头"],
                    ["cat treats", "猫零食"],
                ],
                19.0,
                18.0,
            ),
            leaf(
                ["Cat litter", "猫砂"],
                [
                    ["clumping litter", "结团猫砂"],
                    ["silica litter", "水晶猫砂"],
                    ["tofu litter", "豆腐猫砂"],
                ],
                15.0,
                16.0,
            ),
            leaf(
                ["Pet toys", "宠物玩具"],
                [
                    ["feather wand", "逗猫棒"],
                    ["chew toy", "磨牙玩具"],
                    ["toy mouse", "玩具老鼠"],
                ],
                7.0,
                0.0,
            ),
            leaf(
                ["Pet beds", "宠物窝"],
                [
                    ["pet bed", "宠物窝"],
                    ["cat tree", "猫爬架"],
                    ["pet blanket", "宠物毯"],
                ],
                44.0,
                0.0,
            ),
            leaf(
                ["Dog food", "狗粮"],
                [
                    ["dry dog food", "狗干粮"],
                    ["wet dog food", "狗罐头"],
                    ["dog treats", "狗零食"],
                ],
                24.0,
                20.0,
            ),
        ],
    },
    Department {
        name: ["Sports", "运动"],
        leaves: [
            leaf(
                ["Yoga", "瑜伽"],
                [
                    ["yoga mat", "瑜伽垫"],
                    ["yoga block", "瑜伽砖"],
                    ["resistance band", "弹力带"],
                ],
                24.0,
                0.0,
            ),
            leaf(
                ["Sportswear", "运动服"],
                [
                    ["leggings", "紧身裤"],
                    ["sports bra", "运动内衣"],
                    ["running shorts", "跑步短裤"],
                ],
                34.0,
                0.0,
            ),
            leaf(
                ["Running", "跑步"],
                [
                    ["running shoes", "跑鞋"],
                    ["running belt", "跑步腰包"],
                    ["sports watch", "运动手表"],
                ],
                85.0,
                0.0,
            ),
            leaf(
                ["Nutrition", "运动营养"],
                [
                    ["protein powder", "蛋白粉"],
                    ["energy bar", "能量棒"],
                    ["electrolytes", "电解质"],
                ],
                26.0,
                24.0,
            ),
            leaf(
                ["Camping", "露营"],
                [
                    ["tent", "帐篷"],
                    ["sleeping bag", "睡袋"],
                    ["camping stove", "露营炉"],
                ],
                92.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Baby", "母婴"],
        leaves: [
            leaf(
                ["Nappies", "纸尿裤"],
                [
                    ["nappies", "纸尿裤"],
                    ["nappy pants", "拉拉裤"],
                    ["wet wipes", "湿巾"],
                ],
                21.0,
                12.0,
            ),
            leaf(
                ["Baby food", "辅食"],
                [
                    ["fruit puree", "果泥"],
                    ["baby cereal", "米粉"],
                    ["baby snacks", "宝宝零食"],
                ],
                8.0,
                10.0,
            ),
            leaf(
                ["Bottles", "奶瓶"],
                [
                    ["baby bottle", "奶瓶"],
                    ["sippy cup", "学饮杯"],
                    ["dummy", "安抚奶嘴"],
                ],
                14.0,
                0.0,
            ),
            leaf(
                ["Baby clothes", "婴儿服装"],
                [
                    ["romper", "连体衣"],
                    ["baby hat", "婴儿帽"],
                    ["bib", "围兜"],
                ],
                16.0,
                0.0,
            ),
            leaf(
                ["Baby toys", "婴儿玩具"],
                [
                    ["rattle", "摇铃"],
                    ["building blocks", "积木"],
                    ["plush bear", "毛绒熊"],
                ],
                18.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Home", "家居"],
        leaves: [
            leaf(
                ["Bedding", "床品"],
                [
                    ["duvet cover", "被套"],
                    ["pillow", "枕头"],
                    ["bed sheet", "床单"],
                ],
                39.0,
                0.0,
            ),
            leaf(
                ["Towels", "毛巾"],
                [
                    ["bath towel", "浴巾"],
                    ["hand towel", "毛巾"],
                    ["bathrobe", "浴袍"],
                ],
                19.0,
                0.0,
            ),
            leaf(
                ["Laundry", "洗衣"],
                [
                    ["laundry detergent", "洗衣液"],
                    ["fabric softener", "柔顺剂"],
                    ["stain remover", "去渍剂"],
                ],
                11.0,
                25.0,
            ),
            leaf(
                ["Lighting", "灯具"],
                [
                    ["desk lamp", "台灯"],
                    ["floor lamp", "落地灯"],
                    ["string lights", "串灯"],
                ],
                36.0,
                0.0,
            ),
            leaf(
                ["Candles", "蜡烛"],
                [
                    ["scented candle", "香薰蜡烛"],
                    ["tealights", "茶蜡"],
                    ["diffuser", "香薰机"],
                ],
                15.0,
                30.0,
            ),
        ],
    },
    Department {
        name: ["Garden", "园艺"],
        leaves: [
            leaf(
                ["Seeds", "种子"],
                [
                    ["tomato seeds", "番茄种子"],
                    ["flower seeds", "花种"],
                    ["herb seeds", "香草种子"],
                ],
                4.0,
                0.0,
            ),
            leaf(
                ["Soil", "土壤肥料"],
                [
                    ["potting soil", "营养土"],
                    ["fertiliser", "肥料"],
                    ["compost", "堆肥"],
                ],
                12.0,
                30.0,
            ),
            leaf(
                ["Pots", "花盆"],
                [
                    ["flower pot", "花盆"],
                    ["hanging planter", "吊盆"],
                    ["balcony box", "阳台花箱"],
                ],
                16.0,
                0.0,
            ),
            leaf(
                ["Garden tools", "园艺工具"],
                [
                    ["pruning shears", "修枝剪"],
                    ["watering can", "洒水壶"],
                    ["hand trowel", "小铲子"],
                ],
                20.0,
                0.0,
            ),
            leaf(
                ["Garden furniture", "户外家具"],
                [
                    ["garden chair", "户外椅"],
                    ["parasol", "遮阳伞"],
                    ["hammock", "吊床"],
                ],
                110.0,
                0.0,
            ),
        ],
    },
    Department {
        name: ["Office", "办公"],
        leaves: [
            leaf(
                ["Notebooks", "笔记本"],
                [
                    ["notebook", "笔记本"],
                    ["planner", "手账"],
                    ["sketchbook", "素描本"],
                ],
                9.0,
                0.0,
            ),
            leaf(
                ["Pens", "笔"],
                [
                    ["fountain pen", "钢笔"],
                    ["gel pens", "中性笔"],
                    ["highlighters", "荧光笔"],
                ],
                7.0,
                0.0,
            ),
            leaf(
                ["Ink", "墨水"],
                [
                    ["ink bottle", "墨水"],
                    ["printer cartridge", "墨盒"],
                    ["toner", "硒鼓"],
                ],
                23.0,
                35.0,
            ),
            leaf(
                ["Desks", "书桌"],
                [
                    ["standing desk", "升降桌"],
                    ["desk organiser", "桌面收纳"],
                    ["desk mat", "桌垫"],
                ],
                65.0,
                0.0,
            ),
            leaf(
                ["Chairs", "椅子"],
                [
                    ["office chair", "办公椅"],
                    ["seat cushion", "坐垫"],
                    ["footrest", "脚踏"],
                ],
                120.0,
                0.0,
            ),
        ],
    },
];

/// Categories at the bottom of the tree, over all departments.
pub(super) const N_LEAVES: usize = DEPARTMENTS.len() * 5;

/// Words of a category by its number.
pub(super) fn leaf_words(leaf: usize) -> &'static LeafWords {
    &DEPARTMENTS[leaf / 5].leaves[leaf % 5]
}

/// Styles, which items have and users like: an adjective and the colours that go with it.
pub(super) const STYLES: [(Word, [Word; 3]); 6] = [
    (
        ["classic", "经典"],
        [["black", "黑色"], ["navy", "藏青色"], ["brown", "棕色"]],
    ),
    (
        ["modern", "现代"],
        [["white", "白色"], ["grey", "灰色"], ["silver", "银色"]],
    ),
    (
        ["natural", "自然"],
        [["beige", "米色"], ["olive", "橄榄绿"], ["sand", "沙色"]],
    ),
    (
        ["playful", "活泼"],
        [
            ["yellow", "黄色"],
            ["orange", "橙色"],
            ["turquoise", "青绿色"],
        ],
    ),
    (
        ["romantic", "浪漫"],
        [["pink", "粉色"], ["lavender", "淡紫色"], ["rose", "玫瑰色"]],
    ),
    (
        ["sporty", "动感"],
        [["red", "红色"], ["blue", "蓝色"], ["lime", "荧光绿"]],
    ),
];

/// What tiers of price say of themselves.
pub(super) const TIERS: [Word; 3] = [["basic", "实惠"], ["comfort", "舒适"], ["premium", "高端"]];

/// What an item has beside its style.
pub(super) const FEATURES: [Word; 8] = [
    ["compact", "便携"],
    ["extra large", "加大"],
    ["gift set", "礼盒"],
    ["eco friendly", "环保"],
    ["handmade", "手工"],
    ["lightweight", "轻量"],
    ["double pack", "两件装"],
    ["limited edition", "限量版"],
];

/// Syllables of made-up brands.
pub(super) const BRAND_STARTS: [Word; 12] = [
    ["Lu", "露"],
    ["Nor", "诺"],
    ["Bel", "贝"],
    ["Ka", "卡"],
    ["Mi", "米"],
    ["Ter", "特"],
    ["Sol", "索"],
    ["Vi", "维"],
    ["Har", "哈"],
    ["Jo", "乔"],
    ["Ori", "欧"],
    ["Fen", "芬"],
];

/// Their ends.
pub(super) const BRAND_ENDS: [Word; 10] = [
    ["vanto", "凡"],
    ["mira", "美"],
    ["dell", "德"],
    ["lina", "琳"],
    ["tora", "拓"],
    ["nova", "诺娃"],
    ["wick", "维克"],
    ["berg", "堡"],
    ["sano", "康"],
    ["rey", "瑞"],
];

/// Age groups of users.
pub(super) const SEGMENTS: [&str; 5] = ["18-24", "25-34", "35-44", "45-59", "60+"];
